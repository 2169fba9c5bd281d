"""Estimates GPU-hours, wall time and price of hours of audio, from measured speeds if any exist."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

Benchmark = Mapping[str, Any]

# Results of `nightscribe bench`: those that ship, and where a user's own are written by default.
SHIPPED_RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
USER_RESULTS = str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "nightscribe" / "bench")

# Measured on 20 hours with 9,000 words each: transcripts took 0.13 MB per hour, and the parts
# they are made from as much again.
OUTPUT_BYTES_PER_H = 300_000


@dataclass(frozen=True, slots=True)
class GpuSpeed:
    """How many times faster than real time a model runs on a GPU, and the source of the figure."""

    gpu: str
    times_real_time: float
    basis: str


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What transcribing an archive takes on one kind of GPU."""

    speed: GpuSpeed
    gpu_h: float
    wall_h: float
    price: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveWorkload:
    """The audio to transcribe, and its shards: silence is added to each."""

    duration_s: float
    num_shards: int
    silence_per_shard_s: float


def measured_speed(gpu: str, model: str, benchmarks: Iterable[Benchmark]) -> GpuSpeed | None:
    """The newest measurement of this model on this GPU; None if there is none."""
    measured = [one for one in benchmarks if _is_of(one, gpu, model)]
    if not measured:
        return None
    newest = max(measured, key=lambda one: str(one["date"]))
    basis = f"measured on {newest['gpu']}, {newest['date']}"
    return GpuSpeed(gpu, float(newest["times_real_time"]), basis)


def estimate_cost(
    work: ArchiveWorkload, speed: GpuSpeed, num_gpus: int, price_per_gpu_h: float | None
) -> CostEstimate:
    """GPU-hours, wall hours and price of a workload whose shards can go to any GPU."""
    silence_s = work.num_shards * work.silence_per_shard_s
    gpu_h = (work.duration_s + silence_s) / speed.times_real_time / 3600
    price = None if price_per_gpu_h is None else gpu_h * price_per_gpu_h
    return CostEstimate(speed, gpu_h, gpu_h / num_gpus, price)


def known_results(folder: str) -> list[dict[str, Any]]:
    """The measurements that ship and those in a user's folder."""
    return [*read_benchmarks(SHIPPED_RESULTS), *read_benchmarks(Path(folder).expanduser())]


def read_benchmarks(folder: Path) -> list[dict[str, Any]]:
    """All measurements in the JSON files of a folder: rows with a GPU, a model and a speed."""
    found = []
    for path in sorted(folder.glob("**/*.json")):
        document = json.loads(path.read_text())
        for one in document if isinstance(document, list) else [document]:
            if isinstance(one, dict) and {"gpu", "model", "times_real_time", "date"} <= one.keys():
                found.append(one)
    return found


def _is_of(benchmark: Benchmark, gpu: str, model: str) -> bool:
    return benchmark["model"] == model and _is_named(str(benchmark["gpu"]), gpu)


def _is_named(device_name: str, gpu: str) -> bool:
    """Whether a name such as a100 stands for the device, such as NVIDIA A100-SXM4-80GB."""
    words = re.findall("[a-z0-9.]+", device_name.lower())
    spans = combinations(range(len(words) + 1), 2)
    return re.sub(r"[\s_-]", "", gpu.lower()) in {"".join(words[i:j]) for i, j in spans}
