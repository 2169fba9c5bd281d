"""The tables of the GPU suite that `nightscribe bench` does not have."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from nightscribe.benchmarks.machine_speed import ModelSpeed
from nightscribe.benchmarks.random_weights import PUBLISHED_NAMES
from nightscribe.benchmarks.report import Table
from ops.benchmarks.attention_backends import BackendCost
from ops.benchmarks.codec_precisions import CodecPrecision
from ops.benchmarks.speculative_passes import PassCost


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """Everything measured of one size of the model."""

    speed: ModelSpeed
    attention: list[BackendCost] = field(default_factory=list)
    codec: list[CodecPrecision] = field(default_factory=list)
    passes: list[PassCost] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # what was not measured, a sentence each

    @classmethod
    def of(cls, size: str) -> Self:
        return cls(speed=ModelSpeed(model=PUBLISHED_NAMES.get(size, size)))


def attention_table(results: Sequence[SizeResult], bandwidth: float) -> Table:
    return Table(
        title="Attention alone, one layer, every KV cache full",
        columns=(
            "model",
            "slots",
            "cache",
            "backend",
            "ms",
            "GB read",
            "share of the copy's GB/s, %",
        ),
        rows=[
            (
                result.speed.model,
                cost.num_slots,
                cost.cache,
                cost.backend,
                1e3 * cost.call_s,
                cost.read_bytes / 1e9,
                100 * cost.read_bytes / cost.call_s / bandwidth,
            )
            for result in results
            for cost in result.attention
        ],
        notes=(
            "Of the backends that support a cache, the first is used. Masked attention reads the "
            "whole cache.",
        ),
    )


def codec_table(results: Sequence[SizeResult], cache: str) -> Table:
    return Table(
        title="Mimi alone, by the precision of its products",
        columns=(
            "model",
            "precision",
            "times real time",
            "codes changed, %",
            "first codebook's, %",
            "share of a long recording's time, %",
        ),
        rows=[
            (
                result.speed.model,
                codec.name,
                codec.times_real_time,
                100 * codec.changed,
                100 * codec.changed_first,
                100
                * result.speed.throughput_of("long", cache).times_real_time
                / codec.times_real_time,
            )
            for result in results
            for codec in result.codec
        ],
        notes=(
            "Changed: compared with strict fp32, on noise, with random weights; a changed code "
            "changes the input of all later codebooks of the frame. Share: of the wall time, if "
            "nothing ran beside Mimi.",
        ),
    )


def passes_table(results: Sequence[SizeResult]) -> Table:
    return Table(
        title="Several frames in one pass",
        columns=("model", "slots", "frames", "ms a pass", "accepted frames needed to gain"),
        rows=[
            (
                result.speed.model,
                cost.num_slots,
                cost.num_frames,
                1e3 * cost.pass_s,
                cost.frames_to_gain,
            )
            for result in results
            for cost in result.passes
        ],
        notes=("Every KV cache full. Random weights cannot show how many frames are accepted.",),
    )
