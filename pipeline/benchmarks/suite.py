"""Everything about a GPU in a few minutes; the very same code runs at toy sizes on a CPU."""

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import torch

from nightscribe.benchmarks.attention_ways import measure_ways
from nightscribe.benchmarks.bandwidth import copy_bytes_per_s
from nightscribe.benchmarks.codec_numbers import measure_numbers
from nightscribe.benchmarks.curve import ROUND_STEPS, curve, weights_bytes
from nightscribe.benchmarks.machine import name_of as machine_of
from nightscribe.benchmarks.machine import today
from nightscribe.benchmarks.passes import FRAMES, measure_pass
from nightscribe.benchmarks.random_weights import random_speech
from nightscribe.benchmarks.sizes import PUBLISHED_NAMES, config_of
from nightscribe.benchmarks.suite_tables import (
    SizeResult,
    attention_table,
    codec_table,
    curve_table,
    passes_table,
    summary_table,
    throughput_table,
)
from nightscribe.benchmarks.table import Table
from nightscribe.benchmarks.throughput import Workload, hear
from nightscribe.model.device import cache_dtype_of, dtype_of, free_bytes_of, name_of
from nightscribe.model.memory_budget import SMALLEST_BUCKET, memory_budget
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.precision import Precision
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import StepRunner

log = logging.getLogger(__name__)

CACHES = ("float8", "int8")  # beside the usual one
KEPT_SHARE = 0.9  # of the free memory
LONG_BUDGET_S = 25.0  # of a GPU's time, for long recordings
MOST_S = 180.0  # for a size: later no measurement is begun that others can do without


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTerms:
    """How much is measured."""

    device: torch.device
    sizes: Sequence[str]
    max_slots: int = 1024  # of the curve
    num_slots: int = 256  # of the rest
    num_rounds: int = 4
    encode_rows: int = 64
    long_s: tuple[float, float] = (60.0, 600.0)
    short_s: tuple[float, float] = (5.0, 15.0)
    shard_s: tuple[float, float] = (30.0, 60.0)
    overlap_s: float = 2.0
    short_per_slot: int = 10
    shards_per_slot: int = 3
    most_s: float = MOST_S

    @classmethod
    def of(cls, sizes: Sequence[str], device: torch.device) -> Self:
        """A GPU's; on a CPU, where only the code is tried, as little as goes through all of it."""
        if device.type == "cuda":
            return cls(device=device, sizes=sizes)
        return cls(
            device=device,
            sizes=sizes,
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
class Suite:
    """What was measured."""

    tables: list[Table]
    measurements: list[dict[str, object]] = field(default_factory=list)  # as `plan` reads them


def measure_suite(terms: SuiteTerms) -> Suite:
    """All tables, the short one last."""
    bandwidth = copy_bytes_per_s(terms.device)
    results = [_measure_size(size, terms) for size in terms.sizes]
    tables = [
        curve_table(results, bandwidth),
        attention_table(results, bandwidth),
        codec_table(results),
        passes_table(results),
        throughput_table(results),
        summary_table(results, terms.device, bandwidth),
    ]
    return Suite(tables, _for_plans(results, terms.device))


def _measure_size(size: str, terms: SuiteTerms) -> SizeResult:
    began_s = time.monotonic()
    plain = dtype_of("auto", terms.device)
    speech = random_speech(config_of(size), terms.device, plain)
    result = SizeResult(size=size)
    result.codec.extend(measure_numbers(speech.mimi, terms.encode_rows, ROUND_STEPS))
    _measure_cache(speech, plain, terms, result)
    others = {
        "attention alone": partial(_measure_ways, speech, terms, result),
        "several frames in one pass": partial(_measure_passes, speech, terms, result),
    }
    for cache in CACHES:
        others[f"the {cache} cache"] = partial(_measure_other, cache, speech, terms, result)
    for name, measure in others.items():
        if time.monotonic() - began_s > terms.most_s:
            result.refused.append(f"The suite's time was over before {name}.")
            continue
        try:
            measure()
        except (RuntimeError, ValueError) as error:  # the tables of the rest are worth having
            log.warning("%s failed", name, exc_info=True)
            result.refused.append(f"Not measured, {name}: {str(error).splitlines()[0]}.")
    return result


def _measure_ways(speech: SpeechToText, terms: SuiteTerms, result: SizeResult) -> None:
    """Over as many slots as most is measured on: one layer of them fits any GPU."""
    plain = dtype_of("auto", terms.device)
    for cache in (name_of(plain), *CACHES):
        try:
            dtype = cache_dtype_of(cache, plain, terms.device)
        except ValueError:  # told where that cache itself is measured
            continue
        ways = measure_ways(speech.language_model, terms.num_slots, plain, dtype)
        result.attention.extend(ways)


def _measure_other(cache: str, speech: SpeechToText, terms: SuiteTerms, result: SizeResult) -> None:
    dtype = cache_dtype_of(cache, dtype_of("auto", terms.device), terms.device)
    _measure_cache(speech, dtype, terms, result, ("long",))


def _measure_cache(
    speech: SpeechToText,
    dtype: torch.dtype,
    terms: SuiteTerms,
    result: SizeResult,
    clips: Sequence[str] = ("long", "short", "shards"),
) -> None:
    cache = name_of(dtype)
    read_bytes = weights_bytes(speech.language_model)
    max_slots = _fitting_slots(speech, cache, terms)
    model = _slotted(speech, max_slots, dtype)
    points = list(curve(model, speech.config, read_bytes, terms.num_rounds))
    result.points.extend((cache, point) for point in points)
    del model
    _release(terms.device)
    num_slots = min(terms.num_slots, max_slots)
    model = _slotted(speech, num_slots, dtype)
    speed = max(point.times_real_time for point in points)
    workloads = {one.name: one for one in _workloads(terms, num_slots, speed)}
    for workload in (workloads[name] for name in clips):
        result.heard.append((cache, hear(model, speech.config, workload, terms.device)))
    del model
    _release(terms.device)


def _measure_passes(speech: SpeechToText, terms: SuiteTerms, result: SizeResult) -> None:
    """Over as many slots as the curve knows a step of and the rest is measured on."""
    plain = name_of(dtype_of("auto", terms.device))
    steps = {point.num_slots: point.in_rounds_s for cache, point in result.points if cache == plain}
    num_slots = max([size for size in steps if size <= terms.num_slots] or [min(steps)])
    for num_frames in FRAMES:
        cost = measure_pass(speech, num_slots, num_frames, steps[num_slots], terms.num_rounds)
        result.passes.append(cost)
        _release(terms.device)


def _slotted(speech: SpeechToText, num_slots: int, dtype: torch.dtype) -> StepRunner:
    return StepRunner(speech, num_slots, ROUND_STEPS, RunnerOptions(cache_dtype=dtype))


def _fitting_slots(speech: SpeechToText, cache: str, terms: SuiteTerms) -> int:
    """As many as were asked for, or half as many, and so on, until they fit beside the weights."""
    activations = name_of(speech.language_model.norm.scale_D.dtype)
    numbers = Precision(weights=activations, activations=activations, cache=cache)
    needs = memory_budget(speech.config, numbers, ROUND_STEPS, terms.encode_rows)
    room = KEPT_SHARE * free_bytes_of(terms.device) - needs.encoding - needs.graphs
    num_slots = terms.max_slots
    while num_slots > SMALLEST_BUCKET and num_slots * needs.per_slot > room:
        num_slots //= 2
    return num_slots


def _workloads(terms: SuiteTerms, num_slots: int, times_real_time: float) -> Iterator[Workload]:
    """Of the long recordings, as much as is heard in the budget at the speed of the steps."""
    shortest_s, longest_s = terms.long_s
    long_s = min(longest_s, max(shortest_s, LONG_BUDGET_S * times_real_time / num_slots))
    yield Workload(name="long", shortest_s=long_s, longest_s=long_s, num_clips=num_slots)
    yield Workload(
        name="short",
        shortest_s=terms.short_s[0],
        longest_s=terms.short_s[1],
        num_clips=terms.short_per_slot * num_slots,
    )
    yield Workload(
        name="shards",
        shortest_s=terms.shard_s[0],
        longest_s=terms.shard_s[1],
        num_clips=terms.shards_per_slot * num_slots,
        overlap_s=terms.overlap_s,
    )


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _for_plans(results: Sequence[SizeResult], device: torch.device) -> list[dict[str, object]]:
    """Long recordings on a GPU, as `nightscribe plan` reads them."""
    if device.type != "cuda":
        return []
    plain = name_of(dtype_of("auto", device))
    return [
        {
            "gpu": machine_of(device),
            "model": PUBLISHED_NAMES[result.size],
            "times_real_time": result.of("long", plain),
            "date": today(),
        }
        for result in results
        if result.size in PUBLISHED_NAMES
    ]
