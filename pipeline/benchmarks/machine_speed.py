"""How fast a device runs one model: the cost of a step by number of slots, and whole workloads."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from nightscribe.benchmarks.measurements import (
    ROUND_STEPS,
    StepCost,
    Throughput,
    Workload,
    measure_throughput,
    step_curve,
    step_weights_bytes,
)
from nightscribe.benchmarks.report import Cell, Table, machine_name, today
from nightscribe.model.device import free_bytes_of, name_of
from nightscribe.model.memory_budget import SMALLEST_BUCKET, memory_budget
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.precision import Precision
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import StepRunner

MEMORY_SHARE = 0.9  # of the free memory
WORKLOADS = ("long", "short", "shards")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchLimits:
    """How much is measured."""

    device: torch.device
    max_slots: int = 1024  # of the curve
    num_slots: int = 256  # of the workloads
    num_rounds: int = 4
    encode_rows: int = 64
    long_budget_s: float = 25.0  # wall time for the long recordings
    long_s: tuple[float, float] = (60.0, 600.0)
    short_s: tuple[float, float] = (5.0, 15.0)
    shard_s: tuple[float, float] = (30.0, 60.0)
    overlap_s: float = 2.0
    short_per_slot: int = 10
    shards_per_slot: int = 3

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Minutes of work for a GPU, or for a CPU."""
        if device.type == "cuda":
            return cls(device=device)
        return cls(
            device=device,
            max_slots=16,
            num_slots=8,
            num_rounds=1,
            encode_rows=8,
            long_budget_s=5.0,
            long_s=(1.0, 20.0),
            short_s=(1.0, 3.0),
            shard_s=(3.0, 6.0),
            overlap_s=0.5,
            short_per_slot=2,
            shards_per_slot=2,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpeed:
    """What was measured of one model, by the precision of its KV cache."""

    model: str
    steps: list[tuple[str, StepCost]] = field(default_factory=list)
    throughputs: list[tuple[str, Throughput]] = field(default_factory=list)

    def throughput_of(self, workload: str, cache: str) -> Throughput:
        return next(
            measured
            for precision, measured in self.throughputs
            if (measured.workload.name, precision) == (workload, cache)
        )

    def measure(
        self,
        speech: SpeechToText,
        cache_dtype: torch.dtype,
        limits: BenchLimits,
        workloads: Sequence[str] = WORKLOADS,
    ) -> None:
        """Add the step curve and the workloads with a KV cache of this dtype."""
        cache = name_of(cache_dtype)
        steps = self.measure_steps(speech, cache_dtype, limits)
        num_slots = min(limits.num_slots, fitting_slots(speech, cache, limits))
        model = step_runner(speech, num_slots, cache_dtype)
        speed = max(step.times_real_time for step in steps)
        for workload in workloads_of(limits, num_slots, speed):
            if workload.name in workloads:
                measured = measure_throughput(model, speech.config, workload, limits.device)
                self.throughputs.append((cache, measured))
        del model
        release_memory(limits.device)

    def measure_steps(
        self, speech: SpeechToText, cache_dtype: torch.dtype, limits: BenchLimits
    ) -> list[StepCost]:
        """Add the step curve with a KV cache of this dtype."""
        cache = name_of(cache_dtype)
        model = step_runner(speech, fitting_slots(speech, cache, limits), cache_dtype)
        read_bytes = step_weights_bytes(speech.language_model)
        steps = list(step_curve(model, speech.config, read_bytes, limits.num_rounds))
        self.steps.extend((cache, step) for step in steps)
        del model
        release_memory(limits.device)
        return steps

    def record(self, device: torch.device, cache: str) -> dict[str, Any]:
        """One entry of a results file, as `nightscribe plan` and `doctor` read it."""
        long = self.throughput_of("long", cache)
        return {
            "gpu": machine_name(device),
            "model": self.model,
            "times_real_time": long.times_real_time,
            "times_real_time_short": self.throughput_of("short", cache).times_real_time,
            "times_real_time_shards": self.throughput_of("shards", cache).times_real_time,
            "occupancy": long.occupancy,
            "cache": cache,
            "date": today(),
        }


def fitting_slots(speech: SpeechToText, cache: str, limits: BenchLimits) -> int:
    """`limits.max_slots`, halved until the slots fit in memory beside the weights."""
    activations = name_of(speech.language_model.norm.scale_D.dtype)
    numbers = Precision(weights=activations, activations=activations, cache=cache)
    needs = memory_budget(speech.config, numbers, ROUND_STEPS, limits.encode_rows)
    free = MEMORY_SHARE * free_bytes_of(limits.device) - needs.encoding - needs.graphs
    num_slots = limits.max_slots
    while num_slots > SMALLEST_BUCKET and num_slots * needs.per_slot > free:
        num_slots //= 2
    return num_slots


def release_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def step_runner(speech: SpeechToText, num_slots: int, cache_dtype: torch.dtype) -> StepRunner:
    return StepRunner(speech, num_slots, ROUND_STEPS, RunnerOptions(cache_dtype=cache_dtype))


def workloads_of(limits: BenchLimits, num_slots: int, times_real_time: float) -> Iterator[Workload]:
    """Long recordings are as long as the time budget allows at the speed of the steps."""
    shortest_s, longest_s = limits.long_s
    long_s = min(longest_s, max(shortest_s, limits.long_budget_s * times_real_time / num_slots))
    yield Workload(name="long", shortest_s=long_s, longest_s=long_s, num_clips=num_slots)
    yield Workload(
        name="short",
        shortest_s=limits.short_s[0],
        longest_s=limits.short_s[1],
        num_clips=limits.short_per_slot * num_slots,
    )
    yield Workload(
        name="shards",
        shortest_s=limits.shard_s[0],
        longest_s=limits.shard_s[1],
        num_clips=limits.shards_per_slot * num_slots,
        overlap_s=limits.overlap_s,
    )


def curve_table(
    speeds: Sequence[ModelSpeed], bandwidth: float, remarks: Sequence[str] = ()
) -> Table:
    return Table(
        title="A step by number of slots, every KV cache full",
        columns=(
            "model",
            "cache",
            "slots",
            "ms a step",
            "times real time",
            "GB read a step",
            "share of the copy's GB/s, %",
            "alone, ms p50",
            "alone, ms p99",
        ),
        rows=[
            (
                speed.model,
                cache,
                step.num_slots,
                1e3 * step.in_rounds_s,
                step.times_real_time,
                step.read_bytes / 1e9,
                100 * step.bytes_per_s / bandwidth,
                1e3 * step.median_s,
                1e3 * step.p99_s,
            )
            for speed in speeds
            for cache, step in speed.steps
        ],
        notes=(
            f"A copy reads and writes {bandwidth / 1e9:,.0f} GB/s. RoundInput in rounds of "
            f"{ROUND_STEPS}, without Mimi; alone: the host reads the results of every step. Read: "
            "the weights and the whole KV cache of every slot.",
            *remarks,
        ),
    )


def throughput_table(speeds: Sequence[ModelSpeed]) -> Table:
    return Table(
        title="Audio to tokens",
        columns=(
            "model",
            "cache",
            "clips",
            "seconds each",
            "number of clips",
            "wall s",
            "times real time",
            "occupancy",
            "host ms a round",
            "GPU ms a round",
        ),
        rows=[
            (
                speed.model,
                cache,
                measured.workload.name,
                f"{measured.workload.shortest_s:.3g} to {measured.workload.longest_s:.3g}",
                measured.workload.num_clips,
                measured.wall_s,
                measured.times_real_time,
                measured.occupancy,
                _ms(measured.host_round_s),
                _ms(measured.device_round_s),
            )
            for speed in speeds
            for cache, measured in speed.throughputs
        ],
        notes=(
            "From int16 samples in host memory to tokens in host memory; prefix, flush and overlap "
            "are transcribed but not counted. A round is 25 steps of every slot: what the host "
            "does for it, and how long its steps run, waiting for codes included.",
        ),
    )


def _ms(time_s: float | None) -> float | None:
    return None if time_s is None else 1e3 * time_s


def summary_table(
    speeds: Sequence[ModelSpeed], device: torch.device, cache: str, bandwidth: float
) -> Table:
    return Table(
        title=f"Summary: {machine_name(device)}, {cache}",
        columns=(
            "model",
            "long, x real time",
            "short, x real time",
            "shards, x real time",
            "live streams",
            "best share of bandwidth, %",
        ),
        rows=[_summary_row(speed, cache, bandwidth) for speed in speeds],
        notes=("Live streams: the largest measured number of slots whose p99 step keeps up.",),
    )


def _summary_row(speed: ModelSpeed, cache: str, bandwidth: float) -> tuple[Cell, ...]:
    steps = [step for precision, step in speed.steps if precision == cache]
    live = [step.num_slots for step in steps if step.keeps_up]
    best = max(step.bytes_per_s for step in steps) / bandwidth
    workloads = (speed.throughput_of(name, cache).times_real_time for name in WORKLOADS)
    return speed.model, *workloads, max(live, default=0), 100 * best
