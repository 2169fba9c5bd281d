"""The progress of a run on the terminal: a bar and counts, or a plain line every 30 s.

A terminal that can move its cursor gets two lines that are drawn again and again. A dumb terminal
gets a line when something begins and every 30 s; a pipe gets a line every 30 s. A display that
breaks is switched off; it never ends a run.
"""

import logging
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from nightscribe.jobs.shell.terminal import clock, console

if TYPE_CHECKING:
    from nightscribe.runs.progress import Progress

LINE_EVERY_S = 30.0
FRAME_S = 0.1
HOUR_S = 3600
MAX_BAR_CHARS = 24
ENDED = ("finished", "stopped", "failed")
# Workers that have not stepped yet report no occupancy.
LOADING = "starting workers, loading the model"
LOADING_HERE = "loading the model"

Arguments = ParamSpec("Arguments")

log = logging.getLogger(__name__)


def _never_raises(
    show: Callable[Concatenate["Display", Arguments], None],
) -> Callable[Concatenate["Display", Arguments], None]:
    """Switch the display off when it breaks: the terminal may be gone, the run goes on."""

    @wraps(show)
    def safely(display: "Display", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if display.is_broken:
            return
        try:
            show(display, *args, **kwargs)
        except Exception as error:
            display.is_broken = True
            log.warning("the progress display is switched off: %s", error)

    return safely


class Display:
    """`with Display(output, quiet) as display:`, then `begin` a phase or `show` progress."""

    def __init__(self, output: str, quiet: bool, is_logged: bool = False) -> None:
        self.is_broken, self.loading = False, LOADING
        self._output, self._is_logged = output, is_logged
        self._console = console(stderr=True)
        is_watched = not quiet and not is_logged and sys.stderr.isatty()
        self._prints_phases = is_watched and self._console.is_dumb_terminal
        self._is_animated = is_watched and not self._prints_phases
        self._live: Live | None = None
        self._spinner = Spinner("dots" if self._has_unicode else "line")
        self._ended = threading.Event()
        self._phase, self._phase_began_s = "", time.monotonic()
        self._progress: Progress | None = None
        self._printed_at_s, self._printed_state = -LINE_EVERY_S, ""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @_never_raises
    def begin(self, phase: str) -> None:
        """Show what the run waits for, until the next phase or the first progress."""
        self._phase, self._phase_began_s = phase, time.monotonic()
        if self._prints_phases:
            self._console.print(phase, soft_wrap=True)

    @_never_raises
    def show(self, progress: "Progress") -> None:
        waits = self.loading if _is_starting(progress) else ""
        if waits != self._phase:
            self._phase, self._phase_began_s = waits, time.monotonic()
        self._progress = progress
        if not self._is_animated and self._is_due(progress):
            self._print(progress)

    @_never_raises
    def summarise(self, progress: "Progress", receipt: Sequence[str] = ()) -> None:
        """Print the end of the run, what the night cost and left, and what may follow."""
        self._stop()
        if self._is_logged:
            return
        self._console.print(_table(progress))
        for about in receipt:
            self._console.print(about, soft_wrap=True)
        for command in next_commands(progress, self._output):
            self._console.print(f"  {command}", soft_wrap=True)

    def _print(self, progress: "Progress") -> None:
        if self._is_logged:
            log.info("progress", extra=progress.document() | {"history": []})
        elif self._phase:
            self._console.print(f"{self._phase}, {recordings(progress)}", soft_wrap=True)
        else:
            parts = [*headline(progress), *details(progress)]
            self._console.print(self._joined(parts), soft_wrap=True)

    def _is_due(self, progress: "Progress") -> bool:
        now_s = time.monotonic()
        if now_s - self._printed_at_s < LINE_EVERY_S and progress.state == self._printed_state:
            return False
        self._printed_at_s, self._printed_state = now_s, progress.state
        return True

    @_never_raises
    def _start(self) -> None:
        if not self._is_animated:
            return
        self._live = Live(
            get_renderable=self._frame, console=self._console, auto_refresh=False, transient=True
        )
        self._live.start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTSTP, self._suspend)
        threading.Thread(target=self._draw, name="display", daemon=True).start()

    @_never_raises
    def _stop(self) -> None:
        self._ended.set()
        if self._live is None:
            return
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        self._live.stop()

    def _draw(self) -> None:
        while not self._ended.wait(FRAME_S) and not self.is_broken:
            self._refresh()

    @_never_raises
    def _refresh(self) -> None:
        if self._live is not None and self._live.is_started:
            self._live.refresh()

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: leave the shell an empty line and a cursor, and draw again afterwards."""
        if self._live is not None and not self.is_broken:
            self._live.stop()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # returns when the process is continued
        signal.signal(signal.SIGTSTP, self._suspend)
        if self._live is not None and not self.is_broken:
            self._live.start()

    @property
    def _has_unicode(self) -> bool:
        return not self._console.options.ascii_only

    def _frame(self) -> Text:
        """The one or two lines that are drawn now."""
        width, spinner = self._console.width, self._spinner.render(self._console.get_time())
        frame = Text.assemble(spinner if isinstance(spinner, Text) else "", " ", overflow="crop")
        progress = self._progress
        if self._phase or progress is None:
            frame.append(self._phase, style="bold")
            frame.append(f"  {clock(time.monotonic() - self._phase_began_s)}")
            below = [recordings(progress)] if progress is not None else []
        else:
            head = self._joined(headline(progress))
            frame.append_text(self._bar(share_done(progress), width - len(head) - 4))
            frame.append(f" {head}")
            below = details(progress)
        frame.truncate(width - 1, overflow="ellipsis" if self._has_unicode else "crop")
        second = Text(f"  {self._joined(below)}")
        second.truncate(width - 1, overflow="ellipsis" if self._has_unicode else "crop")
        return Text("\n").join([frame, second])

    def _bar(self, share: float, room_chars: int) -> Text:
        width = max(min(room_chars, MAX_BAR_CHARS), 0)
        num_full = int(share * width)
        full, empty = ("\u2501", "\u2501") if self._has_unicode else ("#", "-")
        if self._console.color_system is None:
            empty = " " if self._has_unicode else empty
        return Text.assemble(
            (full * num_full, "green"), (empty * (width - num_full), "bright_black")
        )

    def _joined(self, parts: list[str]) -> str:
        return (" \u00b7 " if self._has_unicode else " | ").join(parts)


def _is_starting(progress: "Progress") -> bool:
    return progress.state == "running" and not progress.transcribed_s and not progress.occupancy


def share_done(progress: "Progress") -> float:
    """The share of the audio that this attempt found left; never all of it while work is left."""
    if progress.state == "finished" or not progress.estimated_s:
        return 1.0 if progress.state == "finished" else 0.0
    return min(progress.transcribed_s / progress.estimated_s, 0.99)


def recordings(progress: "Progress") -> str:
    return f"{progress.num_done:,} of {progress.num_recordings:,} recordings"


def headline(progress: "Progress") -> list[str]:
    """Percent of the audio, recordings, and the time left."""
    if progress.state == "draining":
        return ["finishing recordings in progress, Ctrl-C again to stop now"]
    if _is_longer(progress):
        return [recordings(progress), "longer than estimated"]
    return [f"{share_done(progress):.0%}", recordings(progress), *_time_left(progress)]


def _is_longer(progress: "Progress") -> bool:
    """Whether more is left than was expected: durations are estimated from sizes."""
    is_left = progress.state not in ENDED and progress.num_done < progress.num_recordings
    return is_left and progress.transcribed_s >= progress.estimated_s


def _time_left(progress: "Progress") -> list[str]:
    is_past = progress.transcribed_s >= progress.estimated_s
    if progress.state in ENDED or progress.left_s is None or is_past:
        return []
    return [f"{clock(max(progress.left_s, 1.0))} left"]


def details(progress: "Progress") -> list[str]:
    """Hours of audio, speed, occupancy, failures and retries."""
    parts = [
        f"waiting for {progress.waits_for}" if progress.waits_for else "",
        f"{_amount(progress)} of audio",
        f"{progress.speed:.0f} x real time",
        "" if progress.occupancy is None else f"{progress.occupancy:.0%} slot occupancy",
        f"{progress.num_failures:,} failed" if progress.num_failures else "",
        f"{progress.num_retries:,} retried" if progress.num_retries else "",
    ]
    return [part for part in parts if part]


def _amount(progress: "Progress") -> str:
    """How much is done, and of how much where that is known."""
    total_s = max(progress.estimated_s, progress.transcribed_s)
    unit, unit_s = ("h", HOUR_S) if total_s >= HOUR_S else ("min", 60)
    of = "" if _is_longer(progress) else f" of {total_s / unit_s:.1f}"
    return f"{progress.transcribed_s / unit_s:.1f}{of} {unit}"


def next_commands(progress: "Progress", output: str) -> list[str]:
    if progress.state != "finished":
        return ["Run the same command to resume."]
    run = shlex.quote(output)
    retry = ["Run the same command with failures.retry=all to retry the failed recordings."]
    return [
        f"nightscribe show {run}",
        f"nightscribe report {run}",
        f"nightscribe export {run} formats=[srt] to=subtitles",
        *(retry if progress.num_failures else []),
    ]


def _table(progress: "Progress") -> Table:
    table = Table(box=None, show_header=False, title=f"run {progress.run_id} {progress.state}")
    table.add_row("recordings", f"{progress.num_done:,} of {progress.num_recordings:,}")
    table.add_row("failed", f"{progress.num_failures:,}")
    table.add_row("partial, in this run", f"{progress.num_partial:,}")
    table.add_row("audio in this run", clock(progress.transcribed_s))
    table.add_row("elapsed", clock(progress.elapsed_s))
    if progress.elapsed_s and progress.transcribed_s:
        table.add_row("speed", f"{progress.transcribed_s / progress.elapsed_s:.1f} x real time")
    return table
