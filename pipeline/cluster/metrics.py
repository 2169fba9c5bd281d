"""What a run tells Prometheus through Ray's own exporter, which puts `ray_` before every name.

The driver tells of recordings, the decoders of sound, the actors of shards and of their engines.
"""

import threading
import time
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Protocol

from ray.util.metrics import Counter, Gauge, Histogram

from nightscribe.publishing import Visible
from nightscribe.records import ShardTranscript

COUNTERS = {
    "nightscribe_audio_seconds_total": "Seconds of recordings transcribed",
    "nightscribe_decoded_seconds_total": "Seconds of recordings decoded",
    "nightscribe_decode_busy_seconds_total": "Seconds spent fetching and decoding",
    "nightscribe_shards_total": "Shards transcribed",
    "nightscribe_words_total": "Words said",
    "nightscribe_recordings_total": "Recordings published",
    "nightscribe_failures_total": "Recordings that failed, by stage and reason",
    "nightscribe_retries_total": "Shards begun again after their worker died",
}
GAUGES = {
    "nightscribe_slots": "Slots of the engine",
    "nightscribe_slots_busy": "Slots that hold a stream",
    "nightscribe_queue_shards": "Shards that wait for a slot",
}
HISTOGRAMS = {
    "nightscribe_step_seconds": "Time of one step of every slot, the mean of a second",
}
STEP_BOUNDARIES_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56]
LOOK_S = 1.0


class Metrics:
    """The metrics of one process; counters only grow, gauges hold the last value told."""

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
        # Ray refuses to count nothing.
        if amount > 0:
            self._counters[name].inc(amount, tags=dict(tags or {}))

    def hold(self, name: str, value: float) -> None:
        self._gauges[name].set(value)

    def observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)


@cache
def metrics() -> Metrics:
    """Those of this process; Ray takes each name once."""
    return Metrics()


class EngineTally(Protocol):
    """What the metrics need to know of an engine."""

    num_slots: int
    slots_busy: float
    num_steps: int
    busy_s: float


class Watched(Protocol):
    """Something with an engine, and shards that wait for its slots or are in them."""

    @property
    def tally(self) -> EngineTally: ...

    @property
    def num_in_flight(self) -> int: ...


def watch(actor: Watched) -> None:
    """Tell what its engine does, second by second, as long as there is anybody who holds it."""
    looks = threading.Thread(
        target=_look_again, args=(weakref.ref(actor),), name="metrics", daemon=True
    )
    looks.start()


def tell_heard(heard: ShardTranscript) -> None:
    """Count a shard and its words."""
    metrics().add("nightscribe_audio_seconds_total", heard.shard.owned_s)
    metrics().add("nightscribe_words_total", len(heard.words))
    metrics().add("nightscribe_shards_total", 1)


def tell_decoded(decoded_s: float, busy_s: float) -> None:
    """Count a shard that a decoder made, and how long that took it."""
    metrics().add("nightscribe_decoded_seconds_total", decoded_s)
    metrics().add("nightscribe_decode_busy_seconds_total", busy_s)


def tell_published(visible: Visible) -> None:
    """Count what readers can see now and could not before."""
    metrics().add("nightscribe_recordings_total", len(visible.transcripts))
    for failure in visible.failures:
        if failure.shard is None:
            why = {"stage": failure.stage, "reason": failure.reason}
            metrics().add("nightscribe_failures_total", 1, why)


def tell_retries(num_retries: int) -> None:
    """Count shards and files begun again because their worker died."""
    metrics().add("nightscribe_retries_total", num_retries)


def _look_again(actor: weakref.ref[Watched]) -> None:
    num_steps, busy_s = 0, 0.0
    while (watched := actor()) is not None:
        num_steps, busy_s = _look(watched, num_steps, busy_s)
        del watched
        time.sleep(LOOK_S)


def _look(watched: Watched, num_steps: int, busy_s: float) -> tuple[int, float]:
    """Tell what happened since the engine had made so many steps in so many seconds."""
    tally, told = watched.tally, metrics()
    told.hold("nightscribe_slots", tally.num_slots)
    told.hold("nightscribe_slots_busy", tally.slots_busy)
    told.hold("nightscribe_queue_shards", max(watched.num_in_flight - tally.slots_busy, 0.0))
    if tally.num_steps > num_steps:
        step_s = (tally.busy_s - busy_s) / (tally.num_steps - num_steps)
        told.observe("nightscribe_step_seconds", step_s)
    return tally.num_steps, tally.busy_s
