"""NVIDIA GPUs by name, from their data sheets, and an estimate of their speed: no torch."""

import re
from dataclasses import dataclass, replace

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.memory_budget import encode_rows, memory_budget
from nightscribe.model.precision import precision_of

EXAMPLES = "T4, 'L40S 48GB', sm75 or 'sm90 80GB'"
ROUND_STEPS = 25
# The rest of the data sheet's bandwidth is lost to real memory access patterns and to the codec.
REACHED_SHARE = 0.46


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """A GPU model."""

    name: str
    capability: tuple[int, int]
    memory_gb: int
    memory_tb_per_s: float | None = None  # None: unknown

    @property
    def memory_bytes(self) -> int:
        return self.memory_gb * 1_000_000_000


# Where a GPU comes with several memory sizes, the most common one.
GPUS = (
    GpuSpec("V100", (7, 0), 16, 0.9),
    GpuSpec("T4", (7, 5), 16, 0.32),
    GpuSpec("A10G", (8, 6), 24, 0.6),
    GpuSpec("RTX 3090", (8, 6), 24, 0.936),
    GpuSpec("A100", (8, 0), 80, 2.04),
    GpuSpec("L4", (8, 9), 24, 0.3),
    GpuSpec("RTX 4090", (8, 9), 24, 1.008),
    GpuSpec("L40S", (8, 9), 48, 0.864),
    GpuSpec("RTX 5090", (12, 0), 32, 1.792),
    GpuSpec("H100", (9, 0), 80, 3.35),
    GpuSpec("H200", (9, 0), 141, 4.8),
    GpuSpec("B200", (10, 0), 180, 8.0),
)


def gpu_named(written: str) -> GpuSpec:
    """The GPU that a user names: by name or capability, and its memory size if it differs."""
    size = re.search(r"(\d+)\s*GB$", written.strip(), re.IGNORECASE)
    name = written.strip()[: size.start()] if size else written
    gpu = _of_capability(name, written, size is not None) or _of_name(name)
    if gpu is None:
        known = ", ".join(gpu.name for gpu in GPUS)
        raise ValueError(f"there is no GPU {written!r} in the table ({known}); write {EXAMPLES}")
    return replace(gpu, memory_gb=int(size[1])) if size else gpu


def _of_name(name: str) -> GpuSpec | None:
    return next((gpu for gpu in GPUS if _plain(gpu.name) == _plain(name)), None)


def plain_name(gpu: GpuSpec) -> str:
    """The name in lower case without spaces, for use in keys."""
    return gpu.name.lower().replace(" ", "")


def _plain(name: str) -> str:
    return re.sub(r"nvidia|tesla|geforce|rtx|[\s_-]", "", name.lower())


def _of_capability(name: str, written: str, has_size: bool) -> GpuSpec | None:
    found = re.fullmatch(r"sm_?(\d+)(\d)", name.strip(), re.IGNORECASE)
    if not found:
        return None
    capability = int(found[1]), int(found[2])
    same = [gpu for gpu in GPUS if gpu.capability == capability]
    if not same and not has_size:
        raise ValueError(
            f"{written!r} does not say how much memory it has; add it, as in 'sm90 80GB'"
        )
    smallest = min((gpu.memory_gb for gpu in same), default=0)
    return GpuSpec(f"sm{found[1]}{found[2]}", capability, smallest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputEstimate:
    """Seconds of audio transcribed per second, with this many slots."""

    times_real_time: float
    num_slots: int


def estimate_throughput(config: SpeechToTextConfig, gpu: GpuSpec) -> ThroughputEstimate | None:
    """For long recordings in the default precision; None where the model does not fit.

    A step reads the weights once and the KV cache of every slot, so few slots share them badly.
    """
    precision = precision_of("auto", "auto", gpu.capability, gpu.name)
    rows = encode_rows(gpu.memory_bytes, ROUND_STEPS, config.mimi.frame_rate_hz)
    budget = memory_budget(config, precision, ROUND_STEPS, rows)
    num_slots = budget.num_slots(gpu.memory_bytes)
    if not num_slots or gpu.memory_tb_per_s is None:
        return None
    read_bytes = budget.weights + num_slots * budget.cache_per_slot
    steps_per_s = REACHED_SHARE * gpu.memory_tb_per_s * 1e12 / read_bytes
    return ThroughputEstimate(
        times_real_time=num_slots * steps_per_s / config.mimi.frame_rate_hz, num_slots=num_slots
    )
