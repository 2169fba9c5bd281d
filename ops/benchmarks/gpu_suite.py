"""Everything that is measured on a GPU, in a few minutes; the same code runs on a CPU at toy size.

    python -m ops.benchmarks.gpu_suite FOLDER             # the 1B and 2.6B sizes, on a GPU
    python -m ops.benchmarks.gpu_suite FOLDER toy cpu     # tries the code

Writes the tables, and the speeds that `nightscribe plan` reads, to FOLDER.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from nightscribe.benchmarks.machine_speed import (
    BenchLimits,
    curve_table,
    release_memory,
    summary_table,
    throughput_table,
)
from nightscribe.benchmarks.measurements import ROUND_STEPS, copy_bytes_per_s
from nightscribe.benchmarks.random_weights import PUBLISHED_NAMES, config_of, random_speech
from nightscribe.benchmarks.report import Table, conditions, file_name
from nightscribe.model.device import cache_dtype_of, device_of, dtype_of, name_of
from nightscribe.model.speech_to_text import SpeechToText
from ops.benchmarks.attention_backends import measure_backends
from ops.benchmarks.codec_precisions import measure_precisions
from ops.benchmarks.gpu_suite_tables import (
    SizeResult,
    attention_table,
    codec_table,
    passes_table,
)
from ops.benchmarks.speculative_passes import FRAMES, measure_pass

log = logging.getLogger(__name__)

CACHES = ("float8", "int8")  # besides the default one
MOST_S = 180.0  # per size: no optional measurement is started later


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """Which sizes are measured, and how much of each."""

    sizes: Sequence[str]
    limits: BenchLimits
    most_s: float = MOST_S

    @classmethod
    def of(cls, sizes: Sequence[str], device: torch.device) -> Self:
        """A GPU's limits; on a CPU the least that runs all of the code."""
        limits = BenchLimits.of(device) if device.type == "cuda" else smallest_limits(device)
        return cls(sizes=sizes, limits=limits)


def smallest_limits(device: torch.device) -> BenchLimits:
    return BenchLimits(
        device=device,
        max_slots=16,
        num_slots=2,
        num_rounds=1,
        encode_rows=2,
        long_s=(1.0, 2.0),
        short_s=(0.2, 0.6),
        shard_s=(0.6, 1.0),
        overlap_s=0.1,
        short_per_slot=3,
        shards_per_slot=3,
    )


@dataclass(slots=True)
class SuiteResult:
    """What was measured."""

    tables: list[Table]
    records: list[dict[str, Any]] = field(default_factory=list)  # as `nightscribe plan` reads them


def measure_suite(options: SuiteOptions) -> SuiteResult:
    """All tables, the summary last."""
    device = options.limits.device
    bandwidth = copy_bytes_per_s(device)
    results = [measure_size(size, options) for size in options.sizes]
    speeds = [result.speed for result in results]
    refused = list(dict.fromkeys(sentence for one in results for sentence in one.refused))
    cache = name_of(dtype_of("auto", device))
    tables = [
        curve_table(speeds, bandwidth, refused),
        attention_table(results, bandwidth),
        codec_table(results, cache),
        passes_table(results),
        throughput_table(speeds),
        summary_table(speeds, device, cache, bandwidth),
    ]
    return SuiteResult(tables, records_of(results, device))


def measure_size(size: str, options: SuiteOptions) -> SizeResult:
    """The default cache always; the rest while there is time."""
    began_s, limits = time.monotonic(), options.limits
    default_dtype = dtype_of("auto", limits.device)
    speech = random_speech(config_of(size), limits.device, default_dtype)
    result = SizeResult.of(size)
    result.codec.extend(measure_precisions(speech.mimi, limits.encode_rows, ROUND_STEPS))
    result.speed.measure(speech, default_dtype, limits)
    for name, measure in _optional(speech, limits, result).items():
        if time.monotonic() - began_s > options.most_s:
            result.refused.append(f"The time of the suite was over before {name}.")
            continue
        try:
            measure()
        except (RuntimeError, ValueError) as error:  # the other tables are still worth having
            log.warning("%s failed", name, exc_info=True)
            result.refused.append(f"Not measured, {name}: {str(error).splitlines()[0]}.")
    return result


def _optional(
    speech: SpeechToText, limits: BenchLimits, result: SizeResult
) -> dict[str, Callable[[], None]]:
    actions: dict[str, Callable[[], None]] = {
        "attention alone": partial(_measure_attention, speech, limits, result),
        "several frames in one pass": partial(_measure_passes, speech, limits, result),
    }
    for cache in CACHES:
        actions[f"the {cache} cache"] = partial(_measure_cache, cache, speech, limits, result)
    return actions


def _measure_attention(speech: SpeechToText, limits: BenchLimits, result: SizeResult) -> None:
    """Over the slots of the workloads: one layer of their cache fits any GPU."""
    default_dtype = dtype_of("auto", limits.device)
    for cache in (name_of(default_dtype), *CACHES):
        try:
            dtype = cache_dtype_of(cache, default_dtype, limits.device)
        except ValueError:  # reported where that cache itself is measured
            continue
        result.attention.extend(
            measure_backends(speech.language_model, limits.num_slots, default_dtype, dtype)
        )


def _measure_cache(
    cache: str, speech: SpeechToText, limits: BenchLimits, result: SizeResult
) -> None:
    dtype = cache_dtype_of(cache, dtype_of("auto", limits.device), limits.device)
    result.speed.measure(speech, dtype, limits, ("long",))


def _measure_passes(speech: SpeechToText, limits: BenchLimits, result: SizeResult) -> None:
    """Over a number of slots for which the curve knows the cost of a step."""
    default_cache = name_of(dtype_of("auto", limits.device))
    steps = {
        step.num_slots: step.in_rounds_s
        for cache, step in result.speed.steps
        if cache == default_cache
    }
    num_slots = max([size for size in steps if size <= limits.num_slots] or [min(steps)])
    for num_frames in FRAMES:
        cost = measure_pass(speech, num_slots, num_frames, steps[num_slots], limits.num_rounds)
        result.passes.append(cost)
        release_memory(limits.device)


def records_of(results: Sequence[SizeResult], device: torch.device) -> list[dict[str, Any]]:
    """The speeds of published models on a GPU; none of a CPU."""
    if device.type != "cuda":
        return []
    cache = name_of(dtype_of("auto", device))
    published = PUBLISHED_NAMES.values()
    return [one.speed.record(device, cache) for one in results if one.speed.model in published]


def main(folder: str, sizes: Sequence[str], device: torch.device) -> None:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    lines = conditions(device)
    suite = measure_suite(SuiteOptions.of(sizes, device))
    text = "\n".join(table.markdown() for table in suite.tables)
    header = "\n".join(f"- {line}" for line in lines)
    path = place / file_name("suite", device)
    path.write_text(f"# {path.stem}\n\n{header}\n\n{text}")
    if suite.records:
        records = json.dumps(suite.records, indent=2) + "\n"
        (place / file_name("suite", device, "json")).write_text(records)
    sys.stdout.write(f"{text}\n{path}\n")


if __name__ == "__main__":
    sizes = sys.argv[2:3] or ["1b", "2.6b"]
    main(sys.argv[1], sizes, device_of(sys.argv[3] if len(sys.argv) > 3 else "cuda"))
