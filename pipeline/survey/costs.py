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


# Seconds of audio that one CPU core decodes, cuts and looks for speech in, per second, by codec;
# measured on an AMD EPYC (Zen 5), see ops/benchmarks/decoding_amd-epyc_2026-11-30.md.
DECODED_PER_CPU_S = {"mp3": 250.0, "flac": 400.0, "opus": 180.0, "pcm_s16le": 1300.0}
OTHERS_DECODED_PER_CPU_S = 180.0  # of other codecs: the slowest measured
CPU_S_PER_FILE = 0.022  # to start ffmpeg, the largest measured
CPUS_PER_TRANSCRIBER = 2.0  # the engine's thread, and all others


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


def decoding_cpu_h(seconds_by_codec: Mapping[str, float], num_files: int) -> float:
    """CPU-hours that audio workers need for an archive."""
    decoding_s = sum(
        duration_s / DECODED_PER_CPU_S.get(codec, OTHERS_DECODED_PER_CPU_S)
        for codec, duration_s in seconds_by_codec.items()
    )
    return (decoding_s + num_files * CPU_S_PER_FILE) / 3600


def cpus_to_feed(cpu_h: float, cost: CostEstimate, num_gpus: int) -> float:
    """CPUs with which the GPUs never wait for audio, those of the transcribers included."""
    return cpu_h / cost.wall_h + num_gpus * CPUS_PER_TRANSCRIBER


def limited_by_cpus(
    cost: CostEstimate, cpu_h: float, num_cpus: float, num_gpus: int
) -> CostEstimate:
    """The same cost where these CPUs decode; longer if the GPUs wait for them."""
    left = max(num_cpus - num_gpus * CPUS_PER_TRANSCRIBER, 1.0)
    wall_h = max(cost.wall_h, cpu_h / left)
    stretch = wall_h / cost.wall_h
    price = None if cost.price is None else cost.price * stretch
    return CostEstimate(cost.speed, cost.gpu_h * stretch, wall_h, price)


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
