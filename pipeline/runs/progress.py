"""The state of a run: what the display, status.json and the summary show."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from nightscribe.results import NewResults

# The speed is that of the recent past: after a resume or the loss of a machine, the average of
# the run would say little about what comes.
SPEED_WINDOW_S = 60.0
MIN_LEFT_SHARE = 0.01
# The stages of a run, beside that of its task.
READING_STAGE = "fetch and decode"
LOADING_STAGE = "load the model"
COMMIT_STAGE = "commit"
PUBLISH_STAGE = "publish"
ENDED = ("finished", "stopped", "failed")
# What several executors count by themselves.
SUMMED = ("num_words", "committed_s", "num_shards", "num_retries")
# The report draws a few hundred points, however long the run takes.
MAX_HISTORY = 240
DECIMALS = 4  # in status.json

Item = TypeVar("Item")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds that all workers of one stage worked, and waited for other stages."""

    busy_s: float = 0.0
    waiting_s: float = 0.0

    def __add__(self, other: "StageTime") -> "StageTime":
        return StageTime(self.busy_s + other.busy_s, self.waiting_s + other.waiting_s)


class Stopwatch:
    """Starts when it is made; a worker is busy while it is inside at least one `with`."""

    def __init__(self) -> None:
        self._num_open = 0
        self._total = StageTime()
        self._updated_at_s = time.monotonic()

    def __enter__(self) -> None:
        self._update()
        self._num_open += 1

    def __exit__(self, *error: object) -> None:
        self._update()
        self._num_open -= 1

    def take(self) -> StageTime:
        """The time since the last call."""
        self._update()
        total, self._total = self._total, StageTime()
        return total

    def _update(self) -> None:
        now_s = time.monotonic()
        passed_s, self._updated_at_s = now_s - self._updated_at_s, now_s
        is_busy = self._num_open > 0
        self._total += StageTime(passed_s, 0.0) if is_busy else StageTime(0.0, passed_s)


def timed(items: Iterator[Item], watch: Stopwatch) -> Iterator[Item]:
    """The same items: busy while each is made, waiting until the next is asked for."""
    while True:
        with watch:
            item = next(items, None)
        if item is None:
            return
        yield item


@dataclass(slots=True)
class Progress:
    """The counts of one attempt at a run, kept by the driver."""

    run_id: str
    num_recordings: int  # in the plan, including duplicates
    estimated_s: float  # of everything that was left when this attempt began
    num_left: int = 0  # recordings when this attempt began, without duplicates
    num_done_before: int = 0
    num_failures_before: int = 0
    state: str = "running"  # running, draining, stopped, finished, failed
    num_transcripts: int = 0
    num_partial: int = 0
    num_new_failures: int = 0  # recordings without a transcript
    num_new_done: float = 0.0  # a channel is a fraction of its file
    num_words: int = 0
    committed_s: float = 0.0  # seconds of recordings whose words are safe
    transcribed_s: float = 0.0  # with what workers report and have not committed
    num_shards: int = 0
    num_retries: int = 0  # shards and files, after their worker died
    occupancy: float | None = None  # since the last heartbeat
    mean_occupancy: float | None = None  # since the beginning
    started_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    detail: str = ""
    waits_for: str = ""  # what a run that drains has not ended yet
    history: list[tuple[float, float, float | None, int]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)  # by stage, see `set_stage_times`
    num_slot_steps: int = 0  # of all engines
    num_live_steps: int = 0  # of them, with a stream in the slot
    # Durations come from a clock that nobody can set.
    _started_s: float = field(default_factory=lambda: time.monotonic())
    _updated_s: float = field(default_factory=lambda: time.monotonic())
    _recent: list[tuple[float, float]] = field(default_factory=list)
    _history_interval_s: float = 1.0

    def receive(self, num_shards: int, committed_s: float, num_words: int) -> None:
        """Count what was committed."""
        self.num_shards += num_shards
        self.committed_s += committed_s
        self.num_words += num_words
        self.set_transcribed(self.transcribed_s)

    def set_transcribed(self, heard_s: float) -> None:
        """Set the seconds that workers report; they never fall behind what is committed."""
        self.transcribed_s = max(heard_s, self.committed_s, self.transcribed_s)
        self._update_speed()

    def add_results(self, new: NewResults) -> None:
        """Count what was published."""
        self.num_transcripts += len(new.transcripts)
        self.num_partial += sum(one.status == "partial" for one in new.transcripts)
        failed = [one for one in new.failures if one.shard is None]
        self.num_new_failures += len(failed)
        channels = [one.num_channels for one in new.transcripts]
        channels += [one.recording.num_channels for one in failed]
        self.num_new_done += sum(1 / (num_channels or 1) for num_channels in channels)

    def set_steps(self, num_slot_steps: int, num_live_steps: int) -> None:
        """Set the steps that all engines have made so far."""
        self.occupancy = _share(
            num_live_steps - self.num_live_steps, num_slot_steps - self.num_slot_steps
        )
        self.mean_occupancy = _share(num_live_steps, num_slot_steps)
        self.num_slot_steps, self.num_live_steps = num_slot_steps, num_live_steps

    def set_sum(self, parts: Sequence["Progress"]) -> None:
        """Set the counts of a run that several executors work on, by theirs."""
        for name in SUMMED:
            setattr(self, name, sum(getattr(part, name) for part in parts))
        self.set_steps(
            sum(part.num_slot_steps for part in parts), sum(part.num_live_steps for part in parts)
        )
        self.waits = _summed_waits(parts)
        self.waits_for = "; ".join(part.waits_for for part in parts if part.waits_for)
        self.set_transcribed(sum(part.transcribed_s for part in parts))

    def set_stage_times(self, time_by_stage: Mapping[str, StageTime]) -> None:
        """Set the total time that the workers of each stage worked and waited."""
        self.waits = [
            {
                "stage": stage,
                "busy_s": round(total.busy_s, 4),
                "waiting_s": round(total.waiting_s, 4),
            }
            for stage, total in time_by_stage.items()
        ]

    @property
    def num_done(self) -> int:
        return self.num_done_before + round(self.num_new_done)

    @property
    def num_failures(self) -> int:
        """Recordings without a transcript, including those of earlier attempts."""
        return self.num_failures_before + self.num_new_failures

    @property
    def elapsed_s(self) -> float:
        return self._updated_s - self._started_s

    @property
    def speed(self) -> float:
        """Seconds of recordings transcribed per second: recently, or by a run that has ended."""
        if len(self._recent) < 2 or self.state in ENDED:
            return self.transcribed_s / self.elapsed_s if self.elapsed_s > 0 else 0.0
        (then, before_s), (now, transcribed_s) = self._recent[0], self._recent[-1]
        return (transcribed_s - before_s) / (now - then) if now > then else 0.0

    @property
    def left_s(self) -> float | None:
        """The estimated time to the end; None where there is no estimate."""
        if self.state in ENDED:
            return None
        # Durations that were estimated may be too short: what is left is never nothing.
        left = max(self.estimated_s - self.transcribed_s, MIN_LEFT_SHARE * self.transcribed_s)
        return max(left / self.speed, 1.0) if self.speed > 0 else None

    @property
    def phase(self) -> str:
        """starting: nothing was transcribed yet; publishing: everything was."""
        if self.state != "running":
            return self.state
        if not self.transcribed_s:
            return "starting"
        return "transcribing" if self.transcribed_s < self.estimated_s else "finishing"

    def end(self, state: str, detail: str = "") -> None:
        """From now on the counts are those of what is safe."""
        self.state, self.detail, self.waits_for = state, detail, ""
        self.transcribed_s = self.committed_s
        self._update_speed()

    def document(self) -> dict[str, Any]:
        """The content of status.json."""
        counts = {
            name: round(value, DECIMALS) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if not name.startswith("_")
        }
        return counts | {
            "history": [*self.history, self._point()],
            "num_done": self.num_done,
            "num_failures": self.num_failures,
            "phase": self.phase,
            "speed": round(self.speed, 2),
            "left_s": None if self.left_s is None else round(self.left_s),
            "started_at": _iso_time(self.started_at),
            "updated_at": _iso_time(self.updated_at),
        }

    def _update_speed(self) -> None:
        self.updated_at, self._updated_s = time.time(), time.monotonic()
        self._recent.append((self._updated_s, self.transcribed_s))
        self._add_to_history()
        while self._recent[0][0] < self._updated_s - SPEED_WINDOW_S:
            self._recent.pop(0)

    def _add_to_history(self) -> None:
        """Add a point to the history; when it is full, remove every other point."""
        if self.history and self.elapsed_s < self.history[-1][0] + self._history_interval_s:
            return
        self.history.append(self._point())
        if len(self.history) > MAX_HISTORY:
            self.history = self.history[::2]
            self._history_interval_s *= 2

    def _point(self) -> tuple[float, float, float | None, int]:
        times_s = round(self.elapsed_s, 2), round(self.transcribed_s, 2)
        return *times_s, self.occupancy, self.num_live_steps


def log_results(new: NewResults) -> None:
    for failure in new.failures:
        what = {"uri": failure.recording.uri, "stage": failure.stage}
        what |= {"reason": failure.reason, "detail": failure.detail}
        log.info("no transcript", extra=what)
    counts = {"num_transcripts": len(new.transcripts), "num_failures": len(new.failures)}
    log.info("published", extra=counts)


def waits_for(num_open: int, oldest_name: str) -> str:
    """What a run that drains has not ended yet, as a part of a sentence."""
    if not num_open:
        return "the last parts"
    what = "shard or file" if num_open == 1 else "shards and files"
    return f"{num_open} {what} that had begun, the oldest is {oldest_name}"


def _share(num_live_steps: int, num_slot_steps: int) -> float | None:
    return round(num_live_steps / num_slot_steps, DECIMALS) if num_slot_steps > 0 else None


def _summed_waits(parts: Sequence[Progress]) -> list[dict[str, Any]]:
    by_stage: dict[str, dict[str, Any]] = {}
    for wait in (wait for part in parts for wait in part.waits):
        total = by_stage.setdefault(wait["stage"], {**wait, "busy_s": 0.0, "waiting_s": 0.0})
        total["busy_s"] = round(total["busy_s"] + wait["busy_s"], 2)
        total["waiting_s"] = round(total["waiting_s"] + wait["waiting_s"], 2)
    return list(by_stage.values())


def _iso_time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
