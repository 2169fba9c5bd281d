"""What a device is, and what of a model fits it: as `load_stepping` would do it, told alone."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import capability_of, device_of, free_bytes_of
from nightscribe.model.gpu_specs import Gpu
from nightscribe.model.loading import Wishes, fitting_slots, needs_of
from nightscribe.model.memory_budget import Footprint
from nightscribe.model.precision import Capability, Numbers, numbers_of, reason_of

CPU_FILE = Path("/proc/cpuinfo")
# What linear algebra is quicker with, as Linux names it.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
INSTRUCTION_SETS_ARM = ("asimd", "asimddp", "sve", "bf16", "i8mm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device, present or imagined."""

    name: str
    kind: str  # "cuda" or "cpu"
    capability: Capability
    memory_bytes: int
    free_bytes: int
    instruction_sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What one model would take on a device, and how many slots it would get."""

    numbers: Numbers
    reason: str
    needs: Footprint
    num_slots: int  # asked for, or those that are worth having; 0: the model does not fit
    most_slots: int  # that the memory would hold


def device_here(wanted: str) -> Device:
    """The device of this machine that `engine.device` names."""
    device = device_of(wanted)
    if device.type != "cuda":
        return _cpu(device)
    known = torch.cuda.get_device_properties(device)
    return Device(
        name=known.name,
        kind="cuda",
        capability=capability_of(device),
        memory_bytes=known.total_memory,
        free_bytes=free_bytes_of(device),
    )


def device_like(gpu: Gpu) -> Device:
    """A GPU of this kind with nothing on it."""
    size = gpu.memory_bytes
    return Device(
        name=gpu.name,
        kind="cuda",
        capability=gpu.capability,
        memory_bytes=size,
        free_bytes=size,
    )


def diagnose(config: SpeechToTextConfig, device: Device, wishes: Wishes) -> Diagnosis:
    """Numbers, bill and slots; raises ValueError where the device lacks what is asked for."""
    numbers = numbers_of(wishes.dtype, wishes.kv_cache_dtype, device.capability, device.name)
    free_bytes = device.free_bytes
    if device.kind == "cuda":
        free_bytes = min(free_bytes, int(wishes.gpu_memory_share * device.memory_bytes))
    needs = needs_of(config, numbers, wishes, device.kind, free_bytes)
    return Diagnosis(
        numbers=numbers,
        reason=reason_of(wishes.dtype, device.capability),
        needs=needs,
        num_slots=wishes.num_slots or fitting_slots(needs, device.kind, free_bytes),
        most_slots=needs.most_slots(free_bytes),
    )


def _cpu(device: torch.device) -> Device:
    told = _told_of_cpu()
    flags = told.get("flags", told.get("Features", "")).split()
    return Device(
        name=f"{told.get('model name', 'CPU')}, {os.cpu_count()} cores",
        kind="cpu",
        capability=None,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_bytes=free_bytes_of(device),
        instruction_sets=tuple(
            name for name in (*INSTRUCTION_SETS, *INSTRUCTION_SETS_ARM) if name in flags
        ),
    )


def _told_of_cpu() -> dict[str, str]:
    """What Linux tells of the first processor."""
    if not CPU_FILE.exists():
        return {}
    pairs = (line.partition(":")[::2] for line in CPU_FILE.read_text().split("\n\n")[0].split("\n"))
    return {name.strip(): value.strip() for name, value in pairs}
