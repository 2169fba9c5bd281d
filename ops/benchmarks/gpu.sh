#!/bin/sh
# Measures a GPU within eight minutes. Each stage is a process with a time limit of its own and
# writes its tables when it has them: what one stage loses, no other does. Ends with ten lines.
#   sh ops/benchmarks/gpu.sh FOLDER [SIZES [DEVICE]]      sizes are toy, small, 1b and 2.6b
#   sh ops/benchmarks/gpu.sh FOLDER toy cpu               tries every stage on a CPU
# PYTHON is the interpreter, TOTAL_S the time for all stages. A machine with torch and transformers
# is enough; packages in pure Python and moshi with what it imports can be brought along:
#   pip install --target carried --no-deps pytest iniconfig pluggy pygments moshi einops sentencepiece
#   PYTHONPATH=carried sh ops/benchmarks/gpu.sh FOLDER
set -u
folder=${1:?usage: gpu.sh FOLDER [SIZES [DEVICE]]}
sizes=${2:-1b,2.6b}
device=${3:-cuda}
python=${PYTHON:-python3}
total_s=${TOTAL_S:-480}
slowness=${SLOWNESS:-1} # of a busy CPU, which the limits of the stages are not for
summary_s=15
stages=$folder/stages
mkdir -p "$stages"
rm -f "$stages"/*
began_s=$(date +%s)
due_s=$began_s

stage() { # NAME SECONDS COMMAND...
    name=$1
    due_s=$((due_s + $2 * slowness)) # the time of a stage and what those before did not need
    shift 2
    stage_began_s=$(date +%s)
    limit_s=$((due_s - stage_began_s))
    left_s=$((began_s + total_s - summary_s - stage_began_s))
    [ "$limit_s" -le "$left_s" ] || limit_s=$left_s
    code=124
    if [ "$limit_s" -gt 0 ]; then
        # Interrupted, pytest still says what passed; and no stage may end later than it is due.
        grace_s=$((limit_s > 10 ? 5 : 1))
        timeout -s INT -k "$grace_s" "$((limit_s - grace_s + 1))" "$@" >"$stages/$name.log" 2>&1
        code=$?
    fi
    wall_s=$(($(date +%s) - stage_began_s))
    # Killed, since it did not end when interrupted: out of time, not out of memory.
    if [ "$code" -eq 137 ] && [ "$wall_s" -ge "$limit_s" ]; then code=124; fi
    printf '%s\t%s\t%s\n' "$name" "$code" "$wall_s" >>"$stages/times.tsv"
    printf '%s: %s s, exit code %s\n' "$name" "$wall_s" "$code"
}

measure() { # MODULE SECONDS
    stage "$1" "$2" "$python" -m "ops.benchmarks.gpu.$1" "$folder" "$sizes" "$device"
}

# The settings of the project would need more packages.
pytest_options="-c /dev/null --rootdir . --noconftest -p no:cacheprovider -q -rs"
some=
if [ "$device" = cpu ]; then # kernels are interpreted, which is slow
    export TRITON_INTERPRET=1
    some="-k joined"
fi

if [ "$device" != cpu ]; then
    # Triton keeps what it compiles: later stages find it, which have little time for it.
    timeout -k 5 "$total_s" "$python" -m ops.benchmarks.fused_kernel_code here \
        >"$stages/kernel-code.log" 2>&1 &
    timeout -k 5 "$total_s" "$python" -m ops.benchmarks.gpu.compiled "$folder" "$sizes" "$device" \
        >"$stages/compiled.log" 2>&1 &
fi
measure machine 20
# shellcheck disable=SC2086 # several words each
stage kernel-tests 40 "$python" -m pytest $pytest_options tests/model/test_on_gpu.py
# shellcheck disable=SC2086
stage codec-tests 30 "$python" -m pytest $pytest_options $some \
    tests/model/test_codec_kernels.py tests/model/test_weight_kernels.py
measure attention 30
measure sweep 35
measure profiles 30
measure codec 30
for size in $(echo "$sizes" | tr , ' '); do
    stage "workloads-$size" 70 "$python" -m ops.benchmarks.gpu.workloads "$folder" "$size" "$device"
done
measure peers 50
measure curve 40
measure speech 20
"$python" -m ops.benchmarks.gpu.summary "$folder" "$sizes" "$device"
