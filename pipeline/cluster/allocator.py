"""The C library's memory, told to keep what tensors give back.

The tensors of a step come and go thousands of times. In a worker of Ray the allocator often hands
their pages to the kernel and fetches them again each time, which costs an engine on a CPU up to a
third of its speed.
"""

import ctypes

# The constants of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**30
# The most that glibc accepts: half of what the threads beside the first get at a time.
MOST_UNMAPPED_BYTES = 32 * 2**20


def keep_freed_memory() -> bool:
    """For this process, from now on; whether its C library can do so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # only glibc has it
        return False
    wanted = {
        M_MMAP_THRESHOLD: MOST_UNMAPPED_BYTES,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: 2 * MOST_UNMAPPED_BYTES,
    }
    return all([mallopt(option, num_bytes) for option, num_bytes in wanted.items()])
