"""How far a run is: what the display, the heartbeat and the summary tell."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from nightscribe.cluster.stage_time import Spent
from nightscribe.publishing import Visible
from nightscribe.records import Failure, Transcript

# The speed shown is that of the recent past: a run that was resumed, or lost a machine, should
# not be told by its average.
SPEED_WINDOW_S = 120.0
# What the report draws: a few hundred moments, however long the run lasts.
MAX_MOMENTS = 240


@dataclass(slots=True)
class Progress:
    """Counts of one attempt at a run, told by the driver alone."""

    run_id: str
    num_recordings: int  # in the plan, duplicates too
    estimated_s: float  # of everything that was left when this attempt began
    num_left: int = 0  # recordings when this attempt began, duplicates not counted
    num_done_before: int = 0
    num_failures_before: int = 0
    state: str = "running"  # running, draining, stopped, finished, failed
    num_transcripts: int = 0
    num_partial: int = 0
    num_new_failures: int = 0  # recordings without a transcript
    num_new_done: float = 0.0  # a channel is a part of its file
    num_words: int = 0
    heard_s: float = 0.0
    num_shards: int = 0
    num_kills: int = 0
    occupancy: float | None = None  # lately
    mean_occupancy: float | None = None  # since the beginning
    started_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    detail: str = ""
    history: list[tuple[float, float, float | None]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)  # of each stage, see `spend`
    # How long it takes is told by a clock that nobody sets.
    _started_s: float = field(default_factory=lambda: time.monotonic())
    _updated_s: float = field(default_factory=lambda: time.monotonic())
    _recent: list[tuple[float, float]] = field(default_factory=list)
    _moments_apart_s: float = 1.0

    def receive(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            self.num_shards += 1
            self.heard_s += row["heard_s"]
            self.num_words += row["num_words"]
        self._remember()

    def show(self, visible: Visible) -> None:
        """Count what readers can see now."""
        self.num_transcripts += len(visible.transcripts)
        self.num_partial += sum(one.status == "partial" for one in visible.transcripts)
        failed = [one for one in visible.failures if one.shard is None]
        self.num_new_failures += len(failed)
        finished: list[Transcript | Failure] = [*visible.transcripts, *failed]
        for result in finished:
            self.num_new_done += 1 / (result.recording.num_channels or 1)

    def spend(self, spent_by_stage: Mapping[str, Spent]) -> None:
        """Note what the workers of each stage did and waited, all together."""
        self.waits = [
            {
                "stage": stage,
                "busy_s": round(spent.busy_s, 2),
                "waiting_s": round(spent.waiting_s, 2),
            }
            for stage, spent in spent_by_stage.items()
        ]

    @property
    def num_done(self) -> int:
        return self.num_done_before + round(self.num_new_done)

    @property
    def num_failures(self) -> int:
        """Recordings without a transcript, those of earlier attempts too."""
        return self.num_failures_before + self.num_new_failures

    @property
    def elapsed_s(self) -> float:
        return self._updated_s - self._started_s

    @property
    def speed(self) -> float:
        """Seconds of recordings heard in a second, lately."""
        if len(self._recent) < 2:
            return self.heard_s / self.elapsed_s if self.elapsed_s > 0 else 0.0
        (then, before_s), (now, heard_s) = self._recent[0], self._recent[-1]
        return (heard_s - before_s) / (now - then) if now > then else 0.0

    @property
    def left_s(self) -> float | None:
        """How long it will take from here; None: nobody knows."""
        if self.state in ("finished", "stopped", "failed"):
            return None
        left = max(self.estimated_s - self.heard_s, 0.0)
        return left / self.speed if self.speed > 0 else None

    def document(self) -> dict[str, Any]:
        """What status.json holds."""
        told = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        return told | {
            "history": [*self.history, self._moment()],
            "num_done": self.num_done,
            "num_failures": self.num_failures,
            "speed": round(self.speed, 2),
            "left_s": None if self.left_s is None else round(self.left_s),
            "started_at": _moment(self.started_at),
            "updated_at": _moment(self.updated_at),
        }

    def _remember(self) -> None:
        self.updated_at, self._updated_s = time.time(), time.monotonic()
        self._recent.append((self._updated_s, self.heard_s))
        self._note()
        while self._recent[0][0] < self._updated_s - SPEED_WINDOW_S:
            self._recent.pop(0)

    def _note(self) -> None:
        """Add to the history; when it is full, every other moment goes."""
        if self.history and self.elapsed_s < self.history[-1][0] + self._moments_apart_s:
            return
        self.history.append(self._moment())
        if len(self.history) > MAX_MOMENTS:
            self.history = self.history[::2]
            self._moments_apart_s *= 2

    def _moment(self) -> tuple[float, float, float | None]:
        return round(self.elapsed_s, 2), round(self.heard_s, 2), self.occupancy


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
