"""Which device and which numbers the language model gets, from what the user wrote."""

import os
import re
from pathlib import Path

import torch

from nightscribe.model.precision import Capability, cache_of, numbers_of

MEMORY_FILE = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CACHES = DTYPES | {"int8": torch.int8, "float8": torch.float8_e4m3fn}


def device_of(name: str) -> torch.device:
    """The named device; `auto` is the first NVIDIA GPU, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"there is no kind of device {name!r}; write cpu, cuda or cuda:1"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}; NVIDIA GPUs: {torch.cuda.device_count()}")
    return device


def round_products(tf32: str) -> None:
    """Let a GPU round products of float32 to TF32 from now on: none, in convolutions, or all.

    By torch's older switches: after its newer ones torch refuses to read the older.
    """
    torch.backends.cudnn.allow_tf32 = tf32 != "none"
    torch.set_float32_matmul_precision("high" if tf32 == "all" else "highest")


def capability_of(device: torch.device) -> Capability:
    """Of an NVIDIA GPU, such as (9, 0); None of anything else."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """What is computed in; `auto` is what the device is fast at."""
    return DTYPES[numbers_of(name, "auto", capability_of(device), str(device)).activations]


def cache_dtype_of(name: str, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The numbers in which keys and values are kept; `auto` is those of the language model."""
    return CACHES[cache_of(name, name_of(dtype), capability_of(device), str(device))]


def name_of(dtype: torch.dtype) -> str:
    """What the user calls these numbers."""
    return next(name for name, named in CACHES.items() if named == dtype)


def total_bytes_of(device: torch.device) -> int:
    """Memory of a GPU, taken or not."""
    return torch.cuda.mem_get_info(device)[1]


def free_bytes_of(device: torch.device) -> int:
    """Memory that may be taken now; of a CPU, what is left without pushing others out."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free_bytes, left_bytes = _free_on_host(), _left_by_container()
    return free_bytes if left_bytes is None else max(0, min(free_bytes, left_bytes))


def _left_by_container() -> int | None:
    """What this process's container may still take, files that are kept in memory not counted."""
    try:
        limit = int((CONTAINER / "memory.max").read_text())
        used = int((CONTAINER / "memory.current").read_text())
        kept = re.search(r"^inactive_file (\d+)$", (CONTAINER / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # no container, or one without a limit
        return None
    return limit - used + (int(kept[1]) if kept else 0)


def _free_on_host() -> int:
    if MEMORY_FILE.exists():
        for line in MEMORY_FILE.read_text().splitlines():
            name, _, size = line.partition(":")
            if name == "MemAvailable":
                return int(size.split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
