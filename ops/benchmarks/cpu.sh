#!/bin/sh
# Every table of a CPU beside moshi and transformers, on an idle machine; the lines of the 1B size
# take minutes each. Say the folder for the results.
set -eu
folder=${1:?usage: cpu.sh FOLDER}
export OMP_NUM_THREADS=1
bench() { "${PYTHON:-python}" -m nightscribe bench folder="$folder" "$@"; }

bench what=step size=small num_steps=25
bench what=mimi size=small 'num_slots=[1,8]'
bench what=clips size=small 'num_slots=[1,8]'
bench what=step size=1b dtype=bfloat16 num_steps=1
bench what=step size=1b dtype=float32 'num_slots=[1,8]' num_steps=1
bench what=clips size=1b dtype=bfloat16 'num_slots=[8]' num_frames=50
bench what=queue size=small 'num_slots=[8]' num_clips=120 num_frames=20
bench what=queue size=1b dtype=bfloat16 'num_slots=[8]' num_clips=120 num_frames=5 repeats=1
bench what=growth size=toy 'num_slots=[1]' num_frames=4500 repeats=3
