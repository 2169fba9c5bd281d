"""Keeps the memory of tensors in the process that runs an engine."""

import ctypes

# The constants of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**30
# The most that glibc accepts: half of what every thread but the first gets at a time.
MAX_MMAP_THRESHOLD_BYTES = 32 * 2**20


def keep_freed_memory() -> bool:
    """Make malloc of this process keep what tensors free; whether the C library can do so.

    The tensors of a step come and go thousands of times. In a worker of Ray the allocator often
    returns their pages to the kernel and fetches them again each time, which costs an engine on a
    CPU up to a third of its speed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # only glibc has it
        return False
    options = {
        M_MMAP_THRESHOLD: MAX_MMAP_THRESHOLD_BYTES,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: 2 * MAX_MMAP_THRESHOLD_BYTES,
    }
    return all([mallopt(option, num_bytes) for option, num_bytes in options.items()])
