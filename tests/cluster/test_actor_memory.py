"""A worker keeps the memory that it frees."""

import subprocess
import sys

import pytest

NUM_ROUNDS, BLOCK_BYTES = 200, 8 * 2**20
# As a worker of Ray finds itself: whatever is freed goes back to the kernel.
FRUGAL = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
WORK = f"""
import resource, sys
from nightscribe.cluster.transcribing_actor import keep_freed_memory
if sys.argv[1] == "told" and not keep_freed_memory():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range({NUM_ROUNDS}):
        bytearray({BLOCK_BYTES})
work()
before = faults()
work()
print(faults() - before)
"""


def num_faults(word: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", WORK, word], env=FRUGAL, capture_output=True, text=True
    )
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_used_again_instead_of_fetched_again():
    assert num_faults("told") < NUM_ROUNDS < num_faults("not told")
