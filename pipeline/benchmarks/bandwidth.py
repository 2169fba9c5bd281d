"""How fast a device's memory is: what a step is held against."""

import torch

from pipeline.benchmarks.timing import in_turns, medians

REPEATS = 7


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written in a second of copying, in pieces that no cache holds."""
    size_bytes = (4 << 30) if device.type == "cuda" else (256 << 20)
    source = torch.ones(size_bytes // 4, device=device)
    target = torch.empty_like(source)
    spent = in_turns({"copy": lambda: target.copy_(source)}, REPEATS, device)
    return 2 * size_bytes / medians(spent["copy"]).wall_s
