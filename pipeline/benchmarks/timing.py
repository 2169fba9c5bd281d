"""Times of several ways to do the same, taken in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spent:
    """What something took: by the clock, and of the processor by this process."""

    wall_s: float
    processor_s: float


def timed(action: Action, device: torch.device) -> Spent:
    """Do it once, from an idle device to an idle device."""
    settle(device)
    wall_s, processor_s = time.perf_counter(), time.process_time()
    action()
    settle(device)
    return Spent(time.perf_counter() - wall_s, time.process_time() - processor_s)


def in_turns(
    actions: Mapping[str, Action], repeats: int, device: torch.device
) -> dict[str, list[Spent]]:
    """Each action's times, one after the other in every turn, after a turn that does not count."""
    spent: dict[str, list[Spent]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            took = timed(action, device)
            if turn:
                spent[name].append(took)
    return spent


def medians(spent: Sequence[Spent]) -> Spent:
    """The middle of the wall times and that of the processor times."""
    return Spent(median(s.wall_s for s in spent), median(s.processor_s for s in spent))


def settle(device: torch.device) -> None:
    """Wait until a device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
