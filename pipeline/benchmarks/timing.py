"""Wall and CPU times of actions, taken in turns, and the bandwidth of a device's memory."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from nightscribe.model.device import free_bytes_of

Action = Callable[[], object]

COPY_REPEATS = 7


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Wall time, and CPU time of this process."""

    wall_s: float
    cpu_s: float


def timed(action: Action, device: torch.device) -> Elapsed:
    """Run once; the device is idle before and after."""
    synchronize(device)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    action()
    synchronize(device)
    return Elapsed(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def in_turns(
    actions: Mapping[str, Action], repeats: int, device: torch.device
) -> dict[str, list[Elapsed]]:
    """Each action's times over `repeats` turns, after one warm-up turn."""
    elapsed: dict[str, list[Elapsed]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            time_taken = timed(action, device)
            if turn:
                elapsed[name].append(time_taken)
    return elapsed


def medians(elapsed: Sequence[Elapsed]) -> Elapsed:
    """Median wall time and median CPU time."""
    return Elapsed(median(s.wall_s for s in elapsed), median(s.cpu_s for s in elapsed))


def synchronize(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written per second by a copy that is larger than any cache."""
    source = _large(device)
    target = torch.empty_like(source)
    elapsed = in_turns({"copy": lambda: target.copy_(source)}, COPY_REPEATS, device)
    return 2 * source.nbytes / medians(elapsed["copy"]).wall_s


def read_bytes_per_s(device: torch.device) -> float:
    """Bytes per second of a sum over numbers that are larger than any cache."""
    source = _large(device)
    elapsed = in_turns({"sum": source.sum}, COPY_REPEATS, device)
    return source.nbytes / medians(elapsed["sum"]).wall_s


def _large(device: torch.device) -> torch.Tensor:
    most_bytes = (4 << 30) if device.type == "cuda" else (256 << 20)
    return torch.ones(min(most_bytes, free_bytes_of(device) // 4) // 4, device=device)
