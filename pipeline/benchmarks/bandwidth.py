"""How fast a device's memory is: what a step is held against."""

import torch

from nightscribe.benchmarks.timing import in_turns, medians
from nightscribe.model.device import free_bytes_of

REPEATS = 7


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written in a second of copying, in pieces that no cache holds."""
    most_bytes = (4 << 30) if device.type == "cuda" else (256 << 20)
    size_bytes = min(most_bytes, free_bytes_of(device) // 4)
    source = torch.ones(size_bytes // 4, device=device)
    target = torch.empty_like(source)
    spent = in_turns({"copy": lambda: target.copy_(source)}, REPEATS, device)
    return 2 * size_bytes / medians(spent["copy"]).wall_s
