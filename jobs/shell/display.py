"""The progress of a run on the terminal: a progress bar, or a plain line every 30 s."""

import logging
import shlex
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from nightscribe.cluster.progress import Progress
from nightscribe.jobs.shell.terminal import clock, console

LINE_EVERY_S = 30.0
HOUR_S = 3600

log = logging.getLogger(__name__)


class Display:
    """`with Display(output, quiet) as display:`, then call `show` as often as you like."""

    def __init__(self, output: str, quiet: bool, is_logged: bool = False) -> None:
        self._output, self._is_logged = output, is_logged
        self._console = console(stderr=True)
        self._bar = None if quiet or is_logged or not sys.stderr.isatty() else _bar(self._console)
        self._task: TaskID | None = None
        self._printed_at_s = -LINE_EVERY_S
        self._printed_state = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("listing recordings", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                total=progress.num_recordings,
                completed=progress.num_done,
                description=line(progress),
            )
        elif self._is_due(progress):
            self._print(progress)

    def _print(self, progress: Progress) -> None:
        if self._is_logged:
            log.info("progress", extra=progress.document() | {"history": []})
            return
        counted = f"{progress.num_done:,} of {progress.num_recordings:,} recordings"
        self._console.print(f"{counted} · {line(progress)}", soft_wrap=True)

    def summarise(self, progress: Progress) -> None:
        """Print the end of the run, and the commands that may follow."""
        if self._is_logged:
            return
        self._console.print(_table(progress))
        for command in next_commands(progress, self._output):
            self._console.print(f"  {command}", soft_wrap=True)

    def _is_due(self, progress: Progress) -> bool:
        now_s = time.monotonic()
        if now_s - self._printed_at_s < LINE_EVERY_S and progress.state == self._printed_state:
            return False
        self._printed_at_s, self._printed_state = now_s, progress.state
        return True


class _Counted(ProgressColumn):
    """Recordings done and in all; empty until the total is known."""

    def render(self, task: Task) -> Text:
        counted = "" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}"
        return Text(counted, style="bold")


def line(progress: Progress) -> str:
    """Hours, speed, occupancy, failures, retries and time left."""
    parts = [
        "finishing recordings in progress, Ctrl-C again to stop now"
        if progress.state == "draining"
        else "",
        f"waiting for {progress.waits_for}" if progress.waits_for else "",
        f"{progress.transcribed_s / HOUR_S:.1f} h transcribed",
        f"{progress.speed:.0f} x real time",
        "" if progress.occupancy is None else f"{progress.occupancy:.0%} slot occupancy",
        f"{progress.num_failures:,} failed" if progress.num_failures else "",
        f"{progress.num_retries:,} retried" if progress.num_retries else "",
        "" if progress.left_s is None else f"{clock(progress.left_s)} left",
    ]
    return " · ".join(part for part in parts if part)


def next_commands(progress: Progress, output: str) -> list[str]:
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


def _bar(console: Console) -> Bar:
    return Bar(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        _Counted(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )


def _table(progress: Progress) -> Table:
    table = Table(box=None, show_header=False, title=f"run {progress.run_id} {progress.state}")
    table.add_row("recordings", f"{progress.num_done:,} of {progress.num_recordings:,}")
    table.add_row("failed", f"{progress.num_failures:,}")
    table.add_row("partial, in this run", f"{progress.num_partial:,}")
    table.add_row("transcribed in this run", clock(progress.transcribed_s))
    table.add_row("elapsed", clock(progress.elapsed_s))
    if progress.elapsed_s and progress.transcribed_s:
        table.add_row("speed", f"{progress.transcribed_s / progress.elapsed_s:.1f} x real time")
    return table
