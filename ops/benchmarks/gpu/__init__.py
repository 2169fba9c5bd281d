"""What `ops/benchmarks/gpu.sh` measures: a stage per module, each a process of its own.

    python -m ops.benchmarks.gpu.STAGE FOLDER SIZES DEVICE    # such as gpu 1b,2.6b cuda

A stage writes each table as soon as it has it, to FOLDER/stages. `summary` reads them all.
"""
