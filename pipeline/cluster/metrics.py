"""What a run tells Prometheus through Ray's own exporter, which puts `ray_` before every name."""

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

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
    "nightscribe_step_seconds": "Time of one step of every slot",
}
STEP_BOUNDARIES_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56]


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
