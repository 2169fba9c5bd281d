"""`nightscribe export RUN`: write the transcripts of a run as subtitles, text or tables."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import group, option
from nightscribe.reading.export import (
    EXPORT_FORMATS,
    ExportedFile,
    ExportNames,
    ExportOptions,
    export_files,
)
from nightscribe.records import Transcript
from nightscribe.rendering.document import RenderingConfig, one_line
from nightscribe.storage.locations import S3Config, open_file, open_store
from nightscribe.storage.result_tables import open_run, published_uris, read_transcripts
from nightscribe.storage.store import Store
from nightscribe.storage.tables import in_parallel
from nightscribe.storage.voices import cast_names, named

MAX_FAST = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Write the transcripts of a run as files, one for each recording and format."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    to: str | None = option(None, "folder for the files; unset: RUN/exports")
    beside_audio: bool = option(False, "write each file next to its recording instead")
    formats: list[str] = option(
        ["srt", "vtt", "text", "json"], f"formats to write, of {', '.join(EXPORT_FORMATS)}"
    )
    speakers: list[str] = option([], "names of the channels, as in [Agent,Customer]")
    rendering: RenderingConfig = group(RenderingConfig, "subtitles, utterances and paragraphs")
    s3: S3Config = group(S3Config, "access to object stores")


def export(config: ExportConfig) -> int:
    store = open_run(config.run, config.s3)
    uris = list(published_uris(store))
    if not uris:
        raise ValueError(f"{config.run}: there is no transcript yet")
    names = ExportNames(uris)
    options = ExportOptions(
        formats=config.formats, rendering=config.rendering, speakers=tuple(config.speakers)
    )
    target = config.to or store.uri("exports")
    summary = _Summary()
    written = map(summary.add, export_files(_named(store), options, names))
    if config.beside_audio:
        _drain(_write_beside(written, names, config.s3))
    else:
        _drain(_write_to(open_store(target, config.s3), written, names))
    where = "beside the recordings" if config.beside_audio else f"under {target}"
    terminal = console(soft_wrap=True)
    terminal.print(f"{summary.num_files} files {where}")
    for line in summary.lines(config.rendering.reading_chars_per_s):
        terminal.print(line)
    return 0


def _named(store: Store) -> Iterator[Transcript]:
    """The transcripts, with the names that the cast gives to speakers."""
    names_of_cast = cast_names(store)
    return (named(transcript, names_of_cast) for transcript in read_transcripts(store))


@dataclass(slots=True)
class _Summary:
    """Counts files, and keeps the subtitles that have to be read fastest."""

    num_files: int = 0
    num_fast_files: int = 0
    fastest: list[tuple[float, str]] = field(default_factory=list)

    def add(self, one: ExportedFile) -> ExportedFile:
        self.num_files += 1
        speed = one.reading_speed
        if speed is not None and speed.num_fast:
            self.num_fast_files += 1
            sentence = (
                f"{one_line(one.recording.path)} ({one.suffix}): {speed.num_fast} of "
                f"{speed.num_cues} subtitles, up to {speed.fastest_chars_per_s:.1f}"
            )
            entry = speed.fastest_chars_per_s, sentence
            push = heapq.heappush if len(self.fastest) < MAX_FAST else heapq.heappushpop
            push(self.fastest, entry)
        return one

    def lines(self, limit: float) -> Iterator[str]:
        if self.num_fast_files:
            yield f"{self.num_fast_files} files have subtitles above {limit:g} characters/s:"
        for _, sentence in sorted(self.fastest, reverse=True):
            yield f"  {sentence}"


def _write_to(store: Store, written: Iterable[ExportedFile], names: ExportNames) -> Iterator[None]:
    def write(one: ExportedFile) -> None:
        store.write(names.relative(one.recording) + one.suffix, one.content)

    return in_parallel(write, written)


def _write_beside(
    written: Iterable[ExportedFile], names: ExportNames, s3: S3Config
) -> Iterator[None]:
    def write(one: ExportedFile) -> None:
        store, key = open_file(names.beside(one.recording) + one.suffix, s3)
        store.write(key, one.content)

    return in_parallel(write, written)


def _drain(done: Iterator[None]) -> None:
    for _ in done:
        pass


JOB = Job(name="export", config=ExportConfig, run=export, positional=("run",))
