#!/bin/sh
# What only a GPU can show: its tests, then the suite. Say the folder for the
# results. A bare machine with torch needs a few packages in pure Python, which may be carried there:
#   pip install --target carried --no-deps pytest iniconfig pluggy pygments hydra-core omegaconf antlr4-python3-runtime==4.9.3
#   PYTHONPATH=carried sh ops/benchmarks/gpu.sh FOLDER
set -eu
folder=${1:?usage: gpu.sh FOLDER [WORDS FOR nightscribe bench]}
shift
[ $# -gt 0 ] || set -- device=cuda
python=${PYTHON:-python}
mkdir -p "$folder"
# Their own settings would ask for more packages.
"$python" -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q -rs \
    tests/model/test_on_gpu.py >"$folder/gpu-tests.txt" 2>&1 || failed=1
tail -n 30 "$folder/gpu-tests.txt"
"$python" -m nightscribe bench folder="$folder" "$@"
exit "${failed:-0}"
