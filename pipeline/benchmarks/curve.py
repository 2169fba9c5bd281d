"""A step over more and more slots, every window full: its time, and the bytes it must read."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from nightscribe.benchmarks.rounds import a_round, fill_memory
from nightscribe.benchmarks.timing import timed
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.step_runner import StepRunner

ROUND_STEPS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A step over so many slots."""

    num_slots: int
    in_rounds_s: float  # of a step, when the host looks every 25 steps
    median_s: float  # when it looks at every step
    slowest_s: float  # of a hundred such steps, the slowest but one
    frame_s: float
    read_bytes: float

    @property
    def times_real_time(self) -> float:
        return self.num_slots * self.frame_s / self.in_rounds_s

    @property
    def bytes_per_s(self) -> float:
        return self.read_bytes / self.in_rounds_s

    @property
    def keeps_up(self) -> bool:
        """Whether as many live streams could be heard."""
        return self.slowest_s < self.frame_s


def curve(
    model: StepRunner, config: SpeechToTextConfig, weights_bytes: int, num_rounds: int
) -> Iterator[CurvePoint]:
    """From the smallest bucket to all slots."""
    fill_memory(model)
    context, device = config.language_model.context, model.device
    cache_bytes = sum(tensor.nbytes for tensor in model.cache_tensors()) / max(model.bucket_sizes)
    for num_slots in sorted(model.bucket_sizes):
        rounds = a_round(model, num_slots, context, ROUND_STEPS)
        single = a_round(model, num_slots, context, 1)
        for action in (rounds, single):
            action()
        several = [timed(rounds, device).wall_s / ROUND_STEPS for _ in range(num_rounds)]
        singles = [timed(single, device).wall_s for _ in range(num_rounds * ROUND_STEPS)]
        yield CurvePoint(
            num_slots=num_slots,
            in_rounds_s=median(several),
            median_s=median(singles),
            slowest_s=quantiles(singles, n=100)[-1],
            frame_s=1 / config.mimi.frame_rate_hz,
            read_bytes=weights_bytes + num_slots * cache_bytes,
        )


def weights_bytes(language_model: torch.nn.Module) -> int:
    """What a step reads of the weights: all but the tables, of which it reads a few rows."""
    read = (tensor for name, tensor in language_model.named_parameters() if "embedding" not in name)
    return sum(tensor.nbytes for tensor in read)
