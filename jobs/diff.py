"""`nightscribe diff RUN`: the words that the last revision of each transcript changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from omegaconf import MISSING
from rich.text import Text

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.reading.revision_diff import TranscriptDiff, count_changes, transcript_diffs
from nightscribe.report.diff_page import render_diff
from nightscribe.storage.locations import S3Config
from nightscribe.storage.result_tables import open_run, read_transcripts, replaced_transcripts
from nightscribe.storage.schema import DIFF_SCHEMA
from nightscribe.storage.tables import parquet_bytes

TABLE_KEY, PAGE_KEY = "_run/diff.parquet", "_run/diff.html"
MOST_FREQUENT = 10
NOTHING = "(nothing)"


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffConfig:
    """Show the words that the last revision of each transcript changed, the most changed first."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    recording: str | None = option(None, "id of a recording, or a part of its file name")
    max_shown: int = option(20, "changes in the terminal", minimum=0)
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)


def diff(config: DiffConfig) -> int:
    store = open_run(config.run, config.s3)
    diffs = [
        one
        for one in transcript_diffs(read_transcripts(store), replaced_transcripts(store))
        if config.recording in (None, one.recording.recording_id)
        or (config.recording or "") in one.recording.path
    ]
    if not diffs:
        raise ValueError(f"{config.run}: no transcript has been replaced yet")
    diffs.sort(key=lambda one: len(one.changes) / max(one.num_words, 1), reverse=True)
    table = pa.Table.from_pylist([one.row() for one in diffs], schema=DIFF_SCHEMA)
    store.write(TABLE_KEY, parquet_bytes(table))
    store.write(PAGE_KEY, render_diff([(one.row(), one.recording.path) for one in diffs]).encode())
    terminal = console(soft_wrap=True)
    for line in _lines(diffs, config.max_shown):
        terminal.print(line)
    terminal.print(store.uri(TABLE_KEY))
    terminal.print(store.uri(PAGE_KEY))
    return 0


def _lines(diffs: Sequence[TranscriptDiff], max_shown: int) -> Iterator[str | Text]:
    num_changed = sum(bool(one.changes) for one in diffs)
    num_changes = sum(len(one.changes) for one in diffs)
    yield (
        f"{num_changed:,} of {len(diffs):,} transcripts that were replaced have other words, "
        f"in {num_changes:,} places"
    )
    for (before, after), count in count_changes(diffs).most_common(MOST_FREQUENT):
        if count > 1:
            yield f"{count:>7,} x {before or NOTHING} -> {after or NOTHING}"
    yield from _changes(diffs, max_shown)


def _changes(diffs: Sequence[TranscriptDiff], max_shown: int) -> Iterator[Text]:
    num_shown = 0
    for one in diffs:
        for change in one.changes:
            if num_shown == max_shown:
                return
            num_shown += 1
            line = Text(f"{one.recording.path}  {change.start_s:.1f} s  ", style="dim")
            line.append(change.before or NOTHING, style="red not dim")
            line.append(" -> ").append(change.after or NOTHING, style="green not dim")
            yield line


JOB = Job(name="diff", config=DiffConfig, run=diff, positional=("run", "recording"))
