"""Metrics in Prometheus' text format, with the names of moshi-server, which have no `_total`.

Dashboards made for moshi-server read them. Client libraries would append `_total` to counters.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

HANDLER = '{handler="all"}'
STEP_BUCKETS_S = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
SESSION_BUCKETS_STEPS = (2, 25, 125, 250, 500, 750, 1125, 1500, 2250, 3000, 4500)
LAG_BUCKETS_S = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.5, 1, 2, 5, 10)


@dataclass(slots=True)
class Value:
    """A counter or a gauge."""

    name: str
    kind: str
    help: str
    labels: str = ""
    value: float = 0.0

    def add(self, amount: float = 1.0) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        yield f"{self.name}{self.labels} {self.value:g}"


@dataclass(slots=True)
class LabelledCounter:
    """A counter for each value of one label."""

    name: str
    label: str
    help: str
    values: dict[str, int] = field(default_factory=dict)

    def add(self, value: str) -> None:
        self.values[value] = self.values.get(value, 0) + 1

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} counter"
        for value, count in sorted(self.values.items()):
            yield f'{self.name}{{{self.label}="{value}"}} {count}'


@dataclass(slots=True)
class Histogram:
    """Counts of values up to each bound."""

    name: str
    help: str
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        count = 0
        for bound, more in zip(self.bounds, self.counts, strict=False):
            count += more
            yield f'{self.name}_bucket{{le="{bound:g}"}} {count}'
        count += self.counts[-1]
        yield f'{self.name}_bucket{{le="+Inf"}} {count}'
        yield f"{self.name}_sum {self.total:g}"
        yield f"{self.name}_count {count}"


@dataclass(slots=True)
class Metrics:
    """Everything that `/metrics` says."""

    connects: Value = field(
        default_factory=lambda: Value(
            "asr_connect", "counter", "Connections, rejected ones included.", HANDLER
        )
    )
    open_channels: Value = field(
        default_factory=lambda: Value("asr_open_channels", "gauge", "Slots in use.", HANDLER)
    )
    step_duration: Histogram = field(
        default_factory=lambda: Histogram(
            "asr_model_step_duration", "Seconds of a round of the engine.", STEP_BUCKETS_S
        )
    )
    session_steps: Histogram = field(
        default_factory=lambda: Histogram(
            "asr_connection_num_steps", "Steps of a session, at its end.", SESSION_BUCKETS_STEPS
        )
    )
    lag: Histogram = field(
        default_factory=lambda: Histogram(
            "asr_step_lag",
            "Seconds from the arrival of the newest whole frame to the output of its step.",
            LAG_BUCKETS_S,
        )
    )
    ends: LabelledCounter = field(
        default_factory=lambda: LabelledCounter(
            "asr_session_ends", "reason", "Sessions by the reason of their end."
        )
    )
    rejects: LabelledCounter = field(
        default_factory=lambda: LabelledCounter(
            "asr_rejects", "reason", "Connections and requests that were refused."
        )
    )

    def text(self) -> str:
        every = (
            self.connects,
            self.open_channels,
            self.step_duration,
            self.session_steps,
            self.lag,
            self.ends,
            self.rejects,
        )
        return "\n".join([line for one in every for line in one.lines()]) + "\n"
