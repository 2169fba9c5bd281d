"""Where and under what conditions something was measured."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

COMPARED = ("nightscribe", "torch", "moshi", "transformers")


def name_of(device: torch.device) -> str:
    """What the maker calls the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def conditions(device: torch.device) -> list[str]:
    """The machine, its load, the versions and the moment, a line each."""
    versions = [f"{name} {_version(name)}" for name in COMPARED]
    load = os.getloadavg()[0]
    return [
        f"{name_of(device)}; {os.cpu_count()} processors, {torch.get_num_threads()} used; "
        f"load {load:.1f} when it began",
        f"{', '.join(versions)}; commit {commit()}; Python {platform.python_version()}",
        f"{today()}; random weights",
    ]


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def commit() -> str:
    """The commit of this code, marked if files were changed since; `unknown` outside of git."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def file_name(what: str, device: torch.device, ending: str = "md") -> str:
    machine = re.sub(r"[^a-z0-9]+", "-", name_of(device).lower()).strip("-")
    return f"{what}_{machine}_{today()}.{ending}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
