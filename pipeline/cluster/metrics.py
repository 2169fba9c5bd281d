"""Metrics for Prometheus, through the exporter of Ray, which puts `ray_` before every name.

The driver counts recordings, the audio workers decoded audio, the transcribers shards and steps.
"""

import threading
import time
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Protocol

from ray.util.metrics import Counter, Gauge, Histogram

from nightscribe.results import NewResults

COUNTERS = {
    "nightscribe_audio_seconds_total": "Seconds of audio transcribed",
    "nightscribe_decoded_seconds_total": "Seconds of audio decoded",
    "nightscribe_decode_busy_seconds_total": "Seconds spent fetching and decoding",
    "nightscribe_shards_total": "Shards transcribed",
    "nightscribe_words_total": "Words transcribed",
    "nightscribe_recordings_total": "Recordings published",
    "nightscribe_failures_total": "Recordings that failed, by stage and reason",
    "nightscribe_retries_total": "Shards and files retried after their worker died",
}
GAUGES = {
    "nightscribe_slots": "Slots of the engine",
    "nightscribe_slots_busy": "Slots in use",
    "nightscribe_queue_shards": "Shards waiting for a slot",
}
HISTOGRAMS = {
    "nightscribe_step_seconds": "Duration of one engine step, averaged over a second",
}
STEP_BOUNDARIES_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56]
SAMPLE_INTERVAL_S = 1.0


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        tag_keys = {"nightscribe_failures_total": ("stage", "reason")}
        self._counters = {
            name: Counter(name, description=meaning, tag_keys=tag_keys.get(name, ()))
            for name, meaning in COUNTERS.items()
        }
        self._gauges = {name: Gauge(name, description=meaning) for name, meaning in GAUGES.items()}
        self._histograms = {
            name: Histogram(name, description=meaning, boundaries=STEP_BOUNDARIES_S)
            for name, meaning in HISTOGRAMS.items()
        }

    def add(self, name: str, amount: float, tags: Mapping[str, str] | None = None) -> None:
        # Ray refuses to add zero.
        if amount > 0:
            self._counters[name].inc(amount, tags=dict(tags or {}))

    def set(self, name: str, value: float) -> None:
        self._gauges[name].set(value)

    def observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)


@cache
def metrics() -> Metrics:
    """The metrics of this process; Ray accepts each name once."""
    return Metrics()


class EngineCounts(Protocol):
    """The statistics of an engine that are exported."""

    num_slots: int
    slots_busy: float
    num_steps: int
    busy_s: float


class EngineOwner(Protocol):
    """Something with an engine, and shards that wait for its slots or are in them."""

    @property
    def stats(self) -> EngineCounts: ...

    @property
    def num_in_flight(self) -> int: ...


def export_engine_stats(owner: EngineOwner) -> None:
    """Export the statistics of its engine every second, for as long as the owner exists."""
    threading.Thread(
        target=_export_regularly, args=(weakref.ref(owner),), name="metrics", daemon=True
    ).start()


def count_transcribed(audio_s: float, num_words: float, num_shards: float) -> None:
    """Count shards and their words."""
    metrics().add("nightscribe_audio_seconds_total", audio_s)
    metrics().add("nightscribe_words_total", num_words)
    metrics().add("nightscribe_shards_total", num_shards)


def count_decoded(decoded_s: float, busy_s: float) -> None:
    """Count decoded audio and the time that decoding it took."""
    metrics().add("nightscribe_decoded_seconds_total", decoded_s)
    metrics().add("nightscribe_decode_busy_seconds_total", busy_s)


def count_published(new: NewResults) -> None:
    """Count recordings and failures that were published."""
    metrics().add("nightscribe_recordings_total", len(new.transcripts))
    for failure in new.failures:
        if failure.shard is None:
            tags = {"stage": failure.stage, "reason": failure.reason}
            metrics().add("nightscribe_failures_total", 1, tags)


def count_retries(num_retries: int) -> None:
    """Count shards and files that are retried because their worker died."""
    metrics().add("nightscribe_retries_total", num_retries)


def _export_regularly(owner: weakref.ref[EngineOwner]) -> None:
    num_steps, busy_s = 0, 0.0
    while (living := owner()) is not None:
        num_steps, busy_s = _export(living, num_steps, busy_s)
        del living
        time.sleep(SAMPLE_INTERVAL_S)


def _export(owner: EngineOwner, num_steps: int, busy_s: float) -> tuple[int, float]:
    """Export the present state, and the mean step since the engine had these counts."""
    stats, exported = owner.stats, metrics()
    exported.set("nightscribe_slots", stats.num_slots)
    exported.set("nightscribe_slots_busy", stats.slots_busy)
    exported.set("nightscribe_queue_shards", max(owner.num_in_flight - stats.slots_busy, 0.0))
    if stats.num_steps > num_steps:
        step_s = (stats.busy_s - busy_s) / (stats.num_steps - num_steps)
        exported.observe("nightscribe_step_seconds", step_s)
    return stats.num_steps, stats.busy_s
