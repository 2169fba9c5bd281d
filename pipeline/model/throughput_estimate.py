"""How fast a GPU probably is, before anybody has measured it: arithmetic, no tensor is made."""

from dataclasses import dataclass

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.gpu_specs import Gpu
from nightscribe.model.memory_budget import encode_rows, footprint
from nightscribe.model.precision import numbers_of

ROUND_STEPS = 25
# Of the bandwidth in a data sheet: what copies reach of it, and the codec, take the rest.
REACHED_SHARE = 0.46


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds of sound heard in a second, by so many slots."""

    times_real_time: float
    num_slots: int


def estimate(config: SpeechToTextConfig, gpu: Gpu) -> Estimate | None:
    """For long recordings in the numbers that `auto` chooses; None where the model does not fit.

    A step reads the weights and all that every slot remembers, so few slots share them badly.
    """
    numbers = numbers_of("auto", "auto", gpu.capability, gpu.name)
    rows = encode_rows(gpu.memory_bytes, ROUND_STEPS, config.mimi.frame_rate_hz)
    needs = footprint(config, numbers, ROUND_STEPS, rows)
    num_slots = needs.num_slots(gpu.memory_bytes)
    if not num_slots or gpu.memory_tb_per_s is None:
        return None
    read_bytes = needs.weights + num_slots * needs.cache_per_slot
    steps_per_s = REACHED_SHARE * gpu.memory_tb_per_s * 1e12 / read_bytes
    return Estimate(
        times_real_time=num_slots * steps_per_s / config.mimi.frame_rate_hz, num_slots=num_slots
    )
