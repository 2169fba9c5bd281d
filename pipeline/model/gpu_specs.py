"""NVIDIA GPUs by name, for arithmetic without one: what their data sheets say."""

import re
from dataclasses import dataclass, replace

EXAMPLES = "T4, 'L40S 48GB', sm75 or 'sm90 80GB'"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU."""

    name: str
    capability: tuple[int, int]
    memory_gb: int
    memory_tb_per_s: float | None = None  # None: nobody knows

    @property
    def memory_bytes(self) -> int:
        return self.memory_gb * 1_000_000_000


# Where a name stands for several sizes, the usual one.
GPUS = (
    Gpu("V100", (7, 0), 16, 0.9),
    Gpu("T4", (7, 5), 16, 0.32),
    Gpu("A10G", (8, 6), 24, 0.6),
    Gpu("RTX 3090", (8, 6), 24, 0.936),
    Gpu("A100", (8, 0), 80, 2.04),
    Gpu("L4", (8, 9), 24, 0.3),
    Gpu("RTX 4090", (8, 9), 24, 1.008),
    Gpu("L40S", (8, 9), 48, 0.864),
    Gpu("RTX 5090", (12, 0), 32, 1.792),
    Gpu("H100", (9, 0), 80, 3.35),
    Gpu("H200", (9, 0), 141, 4.8),
    Gpu("B200", (10, 0), 180, 8.0),
)


def gpu_named(written: str) -> Gpu:
    """The GPU that a user means: a name or a capability, and its memory where that is another."""
    size = re.search(r"(\d+)\s*GB$", written.strip(), re.IGNORECASE)
    name = written.strip()[: size.start()] if size else written
    gpu = _of_capability(name, written, size is not None) or _of_name(name)
    if gpu is None:
        known = ", ".join(gpu.name for gpu in GPUS)
        raise ValueError(f"there is no GPU {written!r} in the table ({known}); write {EXAMPLES}")
    return replace(gpu, memory_gb=int(size[1])) if size else gpu


def _of_name(name: str) -> Gpu | None:
    return next((gpu for gpu in GPUS if _plain(gpu.name) == _plain(name)), None)


def plain_name(gpu: Gpu) -> str:
    """The name in small letters without spaces, as a key may have it."""
    return gpu.name.lower().replace(" ", "")


def _plain(name: str) -> str:
    return re.sub(r"nvidia|tesla|geforce|rtx|[\s_-]", "", name.lower())


def _of_capability(name: str, written: str, has_size: bool) -> Gpu | None:
    found = re.fullmatch(r"sm_?(\d+)(\d)", name.strip(), re.IGNORECASE)
    if not found:
        return None
    capability = int(found[1]), int(found[2])
    alike = [gpu for gpu in GPUS if gpu.capability == capability]
    if not alike and not has_size:
        raise ValueError(f"how much memory has {written!r}? write it behind, as in 'sm90 80GB'")
    smallest = min((gpu.memory_gb for gpu in alike), default=0)
    return Gpu(f"sm{found[1]}{found[2]}", capability, smallest)
