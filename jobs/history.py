"""`nightscribe history RUN`: the nights of a run, what each added, changed, failed and cost."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from omegaconf import MISSING
from rich.table import Table

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import clock, console
from nightscribe.options import check_options, group, option
from nightscribe.storage.generations import Generation, generations
from nightscribe.storage.locations import S3Config
from nightscribe.storage.nights import NightReceipt, read_receipts
from nightscribe.storage.result_tables import open_run

COLUMNS = ("night", "began (UTC)", "state", "changes", "done", "failed", "audio", "took", "cost")
WHOLE_COLUMNS = ("night", "state", "failed", "audio", "took")


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryConfig:
    """List the nights of a run, oldest first: what each added, changed, failed and cost."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    format: str = option("table", "output format", choices=("table", "json"))
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)


def history(config: HistoryConfig) -> int:
    store = open_run(config.run, config.s3)
    nights, made = read_receipts(store), generations(store)
    if config.format == "json":
        document = {
            "nights": [asdict(night) | {"num_left": night.num_left} for night in nights],
            "generations": [asdict(one) for one in made],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    terminal = console(soft_wrap=True)
    rows = _rows(nights)
    lines = _aligned(rows)
    if terminal.is_terminal and max(map(len, lines)) > terminal.width:
        terminal.print(_folded(rows), soft_wrap=False)
    else:
        terminal.print("\n".join(lines))
    for line in _revisions(made):
        terminal.print(line)
    return 0


def _rows(nights: Sequence[NightReceipt]) -> list[list[str]]:
    """The titles, and a row for each night."""
    rows = [list(COLUMNS)]
    for number, night in enumerate(nights):
        rows.append(_cells(night, is_last=number == len(nights) - 1))
    if all(night.cost is None for night in nights):
        rows = [row[:-1] for row in rows]
    return rows


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, however wide: programs read them, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _folded(rows: Sequence[Sequence[str]]) -> Table:
    """As wide as the terminal: a night takes several lines where its cells have several words."""
    titles, *cells = rows
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=title in WHOLE_COLUMNS)
    for row in cells:
        table.add_row(*row)
    return table


def _cells(night: NightReceipt, is_last: bool) -> list[str]:
    is_killed = night.state in ("running", "draining") and not is_last
    return [
        str(night.number),
        night.started_at[:16].replace("T", " "),
        "killed" if is_killed else night.state,
        describe_changes(night) or "-",
        f"{night.num_done:,} of {night.num_recordings:,}",
        f"{night.num_failures:,}",
        clock(night.transcribed_s),
        clock(night.elapsed_s),
        _cost(night),
    ]


def describe_changes(night: NightReceipt) -> str:
    return ", ".join(f"{count:,} {change}" for change, count in night.num_by_change.items())


def _cost(night: NightReceipt) -> str:
    return "-" if night.cost is None else f"{night.cost:,.2f} {night.currency}"


def _revisions(made: Sequence[Generation]) -> list[str]:
    """A line for each change of the settings."""
    lines = []
    for before, one in pairwise(made):
        changed = [
            f"{name} {before.settings.get(name)} -> {one.settings.get(name)}"
            for name in sorted({*before.settings, *one.settings})
            if before.settings.get(name) != one.settings.get(name)
        ]
        if changed:
            lines.append(f"revision {one.number}: {', '.join(changed)}")
        elif one.revision == one.number:
            lines.append(f"revision {one.number}: where {one.where}")
    return lines


JOB = Job(name="history", config=HistoryConfig, run=history, positional=("run",))
