"""The device and dtypes that an engine configuration names, and a report on what fits it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from nightscribe.engine.config import EngineConfig
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.gpu_specs import GpuSpec
from nightscribe.model.memory_budget import MemoryBudget, budget_for, fitting_slots
from nightscribe.model.precision import (
    Capability,
    Precision,
    cache_of,
    precision_of,
    reason_of,
)

MEMORY_FILE = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
CPU_FILE = Path("/proc/cpuinfo")
# The ones that speed up linear algebra, as Linux names them.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
INSTRUCTION_SETS_ARM = ("asimd", "asimddp", "sve", "bf16", "i8mm")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CACHE_DTYPES = DTYPES | {"int8": torch.int8, "float8": torch.float8_e4m3fn}


def device_of(name: str) -> torch.device:
    """The named device; `auto` is the first NVIDIA GPU, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is not a device; write cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}; NVIDIA GPUs: {torch.cuda.device_count()}")
    return device


def set_tf32(tf32: str) -> None:
    """Where a GPU may round float32 products to TF32 from now on: none, convolutions or all.

    With codec, convolutions; the codec's runner rounds the products of its transformer.
    Uses torch's older settings: once the newer ones are set, torch refuses to read the older.
    """
    torch.backends.cudnn.allow_tf32 = tf32 != "none"
    torch.set_float32_matmul_precision("high" if tf32 == "all" else "highest")


def capability_of(device: torch.device) -> Capability:
    """Compute capability of an NVIDIA GPU, such as (9, 0); None for anything else."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The dtype of computations; `auto` is what the device is fast at."""
    return DTYPES[precision_of(name, "auto", capability_of(device), str(device)).activations]


def cache_dtype_of(name: str, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of the KV cache; `auto` is that of the language model."""
    return CACHE_DTYPES[cache_of(name, name_of(dtype), capability_of(device), str(device))]


def name_of(dtype: torch.dtype) -> str:
    """The name of a dtype in the configuration."""
    return next(name for name, named in CACHE_DTYPES.items() if named == dtype)


def total_bytes_of(device: torch.device) -> int:
    """Total memory of a GPU."""
    return torch.cuda.mem_get_info(device)[1]


def free_bytes_of(device: torch.device) -> int:
    """Free memory; of a CPU, what can be used without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free_bytes, left_bytes = _free_on_host(), _left_in_cgroup()
    return free_bytes if left_bytes is None else max(0, min(free_bytes, left_bytes))


def _left_in_cgroup() -> int | None:
    """What this process's container may still use; cached files do not count as used."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (CGROUP / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # no container, or none with a limit
        return None
    return limit - used + (int(cached[1]) if cached else 0)


def _free_on_host() -> int:
    if MEMORY_FILE.exists():
        for line in MEMORY_FILE.read_text().splitlines():
            name, _, size = line.partition(":")
            if name == "MemAvailable":
                return int(size.split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A device of this machine, or one from the table of GPUs."""

    name: str
    kind: str  # "cuda" or "cpu"
    capability: Capability
    memory_bytes: int
    free_bytes: int
    instruction_sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What one model would take on a device, and how many slots it would get."""

    precision: Precision
    reason: str
    budget: MemoryBudget
    num_slots: int  # configured, or as many as are useful; 0: the model does not fit
    max_slots: int  # that fit into the memory


def local_device(name: str) -> DeviceSpec:
    """The device of this machine that `engine.device` names."""
    device = device_of(name)
    if device.type != "cuda":
        return _cpu_spec(device)
    properties = torch.cuda.get_device_properties(device)
    return DeviceSpec(
        name=properties.name,
        kind="cuda",
        capability=capability_of(device),
        memory_bytes=properties.total_memory,
        free_bytes=free_bytes_of(device),
    )


def device_like(gpu: GpuSpec) -> DeviceSpec:
    """An empty GPU of this model."""
    size = gpu.memory_bytes
    return DeviceSpec(
        name=gpu.name,
        kind="cuda",
        capability=gpu.capability,
        memory_bytes=size,
        free_bytes=size,
    )


def fit_report(config: SpeechToTextConfig, device: DeviceSpec, engine: EngineConfig) -> FitReport:
    """What `load_step_runner` would do; ValueError if the device does not have the precision."""
    precision = precision_of(engine.dtype, engine.kv_cache_dtype, device.capability, device.name)
    free_bytes = device.free_bytes
    if device.kind == "cuda":
        free_bytes = min(free_bytes, int(engine.gpu_memory_share * device.memory_bytes))
    budget = budget_for(config, precision, engine, device.kind, free_bytes)
    return FitReport(
        precision=precision,
        reason=reason_of(engine.dtype, device.capability),
        budget=budget,
        num_slots=engine.num_slots or fitting_slots(budget, device.kind, free_bytes),
        max_slots=budget.max_slots(free_bytes),
    )


def _cpu_spec(device: torch.device) -> DeviceSpec:
    properties = _cpu_properties()
    flags = properties.get("flags", properties.get("Features", "")).split()
    return DeviceSpec(
        name=f"{properties.get('model name', 'CPU')}, {os.cpu_count()} cores",
        kind="cpu",
        capability=None,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_bytes=free_bytes_of(device),
        instruction_sets=tuple(
            name for name in (*INSTRUCTION_SETS, *INSTRUCTION_SETS_ARM) if name in flags
        ),
    )


def _cpu_properties() -> dict[str, str]:
    """What Linux reports on the first processor."""
    if not CPU_FILE.exists():
        return {}
    pairs = (line.partition(":")[::2] for line in CPU_FILE.read_text().split("\n\n")[0].split("\n"))
    return {name.strip(): value.strip() for name, value in pairs}
