#!/bin/sh
# Runs the tests that need a GPU, then the GPU suite, and writes the results to FOLDER.
#   sh ops/benchmarks/gpu.sh FOLDER [SIZE [DEVICE]]      sizes are toy, small, 1b and 2.6b
# On a bare machine with torch, a few packages in pure Python are enough; they can be brought along:
#   pip install --target carried --no-deps pytest iniconfig pluggy pygments
#   PYTHONPATH=carried sh ops/benchmarks/gpu.sh FOLDER
set -eu
folder=${1:?usage: gpu.sh FOLDER [SIZE [DEVICE]]}
shift
python=${PYTHON:-python}
mkdir -p "$folder"
# The settings of the project would need more packages.
"$python" -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q -rs \
    tests/model/test_on_gpu.py >"$folder/gpu-tests.txt" 2>&1 || failed=1
tail -n 30 "$folder/gpu-tests.txt"
"$python" -m ops.benchmarks.gpu_suite "$folder" "$@"
exit "${failed:-0}"
