"""What the suite measured, as tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from nightscribe.benchmarks.attention_ways import WayCost
from nightscribe.benchmarks.codec_numbers import CodecNumbers
from nightscribe.benchmarks.curve import ROUND_STEPS, CurvePoint
from nightscribe.benchmarks.machine import name_of as machine_of
from nightscribe.benchmarks.passes import PassCost
from nightscribe.benchmarks.table import Cell, Table
from nightscribe.benchmarks.throughput import Throughput
from nightscribe.model.device import dtype_of, name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """Everything about one size of the model."""

    size: str
    points: list[tuple[str, CurvePoint]] = field(default_factory=list)  # with the cache's numbers
    attention: list[WayCost] = field(default_factory=list)
    codec: list[CodecNumbers] = field(default_factory=list)
    heard: list[tuple[str, Throughput]] = field(default_factory=list)
    passes: list[PassCost] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # what the device cannot do, a sentence each

    def of(self, workload: str, cache: str) -> float:
        """Times real time of a workload."""
        return next(
            heard.times_real_time
            for numbers, heard in self.heard
            if (heard.workload.name, numbers) == (workload, cache)
        )


def curve_table(results: Sequence[SizeResult], bandwidth: float) -> Table:
    return Table(
        title="A step over more and more slots, every window full",
        columns=(
            "size",
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
                result.size,
                cache,
                point.num_slots,
                1e3 * point.in_rounds_s,
                point.times_real_time,
                point.read_bytes / 1e9,
                100 * point.bytes_per_s / bandwidth,
                1e3 * point.median_s,
                1e3 * point.slowest_s,
            )
            for result in results
            for cache, point in result.points
        ],
        notes=(
            f"A copy reads and writes {bandwidth / 1e9:,.0f} GB/s. RoundInput in rounds of "
            f"{ROUND_STEPS}; alone: with a look of the host after each. The language model only.",
            *dict.fromkeys(sentence for result in results for sentence in result.refused),
        ),
    )


def attention_table(results: Sequence[SizeResult], bandwidth: float) -> Table:
    return Table(
        title="Attention alone, of one layer, every ring full",
        columns=("size", "slots", "cache", "way", "ms", "GB read", "share of the copy's GB/s, %"),
        rows=[
            (
                result.size,
                cost.num_slots,
                cost.cache,
                cost.way,
                1e3 * cost.call_s,
                cost.read_bytes / 1e9,
                100 * cost.read_bytes / cost.call_s / bandwidth,
            )
            for result in results
            for cost in result.attention
        ],
        notes=("Of the ways that serve a cache the first is taken. Masked attention reads all.",),
    )


def codec_table(results: Sequence[SizeResult]) -> Table:
    return Table(
        title="Mimi alone, by how it multiplies",
        columns=("size", "numbers", "times real time", "codes flipped, %", "first codebook's, %"),
        rows=[
            (
                result.size,
                numbers.name,
                numbers.times_real_time,
                100 * numbers.flipped,
                100 * numbers.flipped_first,
            )
            for result in results
            for numbers in result.codec
        ],
        notes=(
            "Flipped: beside strict fp32, of noise, with random weights; a flip in one codebook "
            "changes what all later ones of the frame are asked.",
        ),
    )


def passes_table(results: Sequence[SizeResult]) -> Table:
    return Table(
        title="Several frames in one pass",
        columns=("size", "slots", "frames", "ms a pass", "frames that must be right to gain"),
        rows=[
            (
                result.size,
                cost.num_slots,
                cost.num_frames,
                1e3 * cost.pass_s,
                cost.frames_to_gain,
            )
            for result in results
            for cost in result.passes
        ],
        notes=(
            "Every window full. Random weights do not tell how many frames of a pass are right.",
        ),
    )


def throughput_table(results: Sequence[SizeResult]) -> Table:
    return Table(
        title="Sound to tokens",
        columns=(
            "size",
            "cache",
            "clips",
            "seconds each",
            "how many",
            "wall s",
            "times real time",
            "occupancy",
            "Mimi alone would take, %",
        ),
        rows=[
            (
                result.size,
                cache,
                heard.workload.name,
                f"{heard.workload.shortest_s:.3g} to {heard.workload.longest_s:.3g}",
                heard.workload.num_clips,
                heard.wall_s,
                heard.times_real_time,
                heard.occupancy,
                100 * heard.times_real_time / result.codec[0].times_real_time,
            )
            for result in results
            for cache, heard in result.heard
        ],
        notes=(
            "From int16 in the host's memory to tokens there; prefix, flush and overlap are heard "
            "but not counted. Mimi as torch multiplies unless told otherwise; its share: of the "
            "wall time, in strict fp32, did nothing run beside it.",
        ),
    )


def summary_table(results: Sequence[SizeResult], device: torch.device, bandwidth: float) -> Table:
    plain = name_of(dtype_of("auto", device))
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        points = [point for cache, point in result.points if cache == plain]
        live = [point.num_slots for point in points if point.keeps_up]
        best = max(point.bytes_per_s for point in points) / bandwidth
        speeds = [result.of(name, plain) for name in ("long", "short", "shards")]
        rows.append((result.size, *speeds, max(live, default=0), 100 * best))
    return Table(
        title=f"In short: {machine_of(device)}, {plain}",
        columns=(
            "size",
            "long, x real time",
            "short, x real time",
            "shards, x real time",
            "live streams",
            "best share of bandwidth, %",
        ),
        rows=rows,
        notes=("Live streams: the largest number of slots measured whose p99 step keeps up.",),
    )
