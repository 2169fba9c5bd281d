"""Results as Markdown: tables, and the machine, versions and date of a measurement."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

COMPARED = ("nightscribe", "torch", "moshi", "transformers")
Cell = str | float | int | None  # None: not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One row per measured case."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns")

    def markdown(self) -> str:
        rule = ["--:" if _is_number(cell) else "---" for cell in self._sample()]
        lines = [self.columns, rule, *([formatted(cell) for cell in row] for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"## {self.title}\n\n{table}\n" + (f"{notes}\n" if notes else "")

    def _sample(self) -> Sequence[Cell]:
        return self.rows[0] if self.rows else self.columns


def formatted(cell: Cell) -> str:
    """Three significant digits; empty where nothing was measured."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _is_number(cell: Cell) -> bool:
    return cell is None or isinstance(cell, int | float)


def machine_name(device: torch.device) -> str:
    """The model name of the GPU or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def conditions(device: torch.device) -> list[str]:
    """The machine and its load, the versions, and the date, one line each."""
    versions = [f"{name} {_version(name)}" for name in COMPARED]
    load = os.getloadavg()[0]
    return [
        f"{machine_name(device)}; {os.cpu_count()} processors, {torch.get_num_threads()} used; "
        f"load {load:.1f} at the start",
        f"{', '.join(versions)}; commit {commit()}; Python {platform.python_version()}",
        f"{today()}; random weights",
    ]


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def commit() -> str:
    """The commit of this code, `-dirty` if files have changed; `unknown` outside a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def file_name(what: str, device: torch.device, ending: str = "md") -> str:
    machine = re.sub(r"[^a-z0-9]+", "-", machine_name(device).lower()).strip("-")
    return f"{what}_{machine}_{today()}.{ending}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
