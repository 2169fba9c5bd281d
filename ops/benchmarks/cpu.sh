#!/bin/sh
# Every comparison with moshi and transformers on a CPU; run it on an idle machine. The lines of the
# 1B size take minutes each.
#   sh ops/benchmarks/cpu.sh FOLDER
set -eu
folder=${1:?usage: cpu.sh FOLDER}
export OMP_NUM_THREADS=1
compare() { "${PYTHON:-python}" -m ops.benchmarks.compare folder="$folder" "$@"; }

compare what=step size=small num_steps=25
compare what=mimi size=small 'num_slots=[1,8]'
compare what=clips size=small 'num_slots=[1,8]'
compare what=step size=1b dtype=bfloat16 num_steps=1
compare what=step size=1b dtype=float32 'num_slots=[1,8]' num_steps=1
compare what=clips size=1b dtype=bfloat16 'num_slots=[8]' num_frames=50
compare what=queue size=small 'num_slots=[8]' num_clips=120 num_frames=20
compare what=queue size=1b dtype=bfloat16 'num_slots=[8]' num_clips=120 num_frames=5 repeats=1
compare what=growth size=toy 'num_slots=[1]' num_frames=4500 repeats=3
