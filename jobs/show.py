"""`nightscribe show RUN [RECORDING]`: print one transcript, or list what is not ok."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, starmap
from pathlib import PurePosixPath

from omegaconf import MISSING
from rich.text import Text

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.reading.export import conversations, document
from nightscribe.records import Transcript, path_of
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    SpeakerUtterance,
    one_line,
    utterances,
)
from nightscribe.rendering.formats import FORMATS, render
from nightscribe.storage.locations import S3Config
from nightscribe.storage.result_tables import (
    Ending,
    endings,
    find_failures,
    find_transcripts,
    open_run,
)
from nightscribe.storage.store import Store
from nightscribe.storage.voices import cast_names, named

SURE, UNSURE = 0.9, 0.6
SPEAKER_COLOURS = ("cyan", "magenta", "green", "blue")
COLOURS = "colours"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowConfig:
    """Print one transcript, doubtful words in colour, or list the recordings that are not ok."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    recording: str | None = option(
        None,
        "id of a recording, or a part of its file name; unset: list failed and suspicious "
        "recordings",
    )
    format: str = option(COLOURS, "output format", choices=(COLOURS, *FORMATS))
    speakers: list[str] = option([], "names of the channels, as in [Agent,Customer]")
    rendering: RenderingConfig = group(RenderingConfig, "subtitles, utterances and paragraphs")
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)
        if self.recording is None and self.format != COLOURS:
            raise ValueError(
                f"format={self.format} needs a recording: nightscribe show RUN RECORDING"
            )


def show(config: ShowConfig) -> int:
    store = open_run(config.run, config.s3)
    if config.recording is None:
        sys.stdout.writelines(_endings(endings(store)))
    else:
        _write(_found(store, config.run, config.recording), config)
    return 0


def _write(channels: list[Transcript], config: ShowConfig) -> None:
    conversation = document(channels[0].recording.uri, channels, config.speakers)
    if config.format != COLOURS:
        sys.stdout.write(render(conversation, config.format, config.rendering))
        return
    terminal = console(soft_wrap=True)
    for line in (_heading(channels), *_lines(conversation, config.rendering)):
        terminal.print(line)


def _endings(found: Iterable[Ending]) -> Iterator[str]:
    """A line for each recording that is not ok, then the number of recordings by status."""
    counts, lines = Counter[str](), []
    for one in found:
        counts[one.status] += 1
        if one.status != "ok":
            channel = "" if one.channel is None else f" [{one.channel}]"
            about = f"{one_line(path_of(one.uri))}{channel}", one_line("; ".join(one.reasons))
            lines.append("  ".join([f"{one.status:<9}", *filter(None, about)]) + "\n")
    yield from sorted(lines)
    amounts = ", ".join(f"{amount:,} {status}" for status, amount in counts.most_common())
    yield f"{counts.total():,} recordings" + (f": {amounts}\n" if amounts else "\n")


def _found(store: Store, run: str, name: str) -> list[Transcript]:
    """All channels of the one recording with that id or file name."""
    with_names = partial(named, names=cast_names(store))
    files = list(conversations(map(with_names, find_transcripts(store, name))))
    if not files:
        raise ValueError(_why_missing(store, run, name))
    # call-1 is that file, although call-1-copy matches, too.
    files = [channels for channels in files if _is_exactly(channels, name)] or files
    if len(files) > 1:
        names = ", ".join(map(_name, files[:5])) + (", ..." if len(files) > 5 else "")
        raise ValueError(f"{name} matches {len(files)} recordings: {names}")
    return files[0]


def _is_exactly(channels: list[Transcript], name: str) -> bool:
    """Whether a file has this name or path, with or without its suffix."""
    path = PurePosixPath(channels[0].recording.path)
    return name in (path.name, path.stem, str(path), channels[0].recording.uri)


def _name(channels: list[Transcript]) -> str:
    """With the id, because spans of one file have the same name."""
    recording = channels[0].recording
    return f"{recording.path} ({recording.recording_id})"


def _why_missing(store: Store, run: str, name: str) -> str:
    failures = find_failures(store, name)
    if not failures:
        return f"no transcript in {run} matches {name}"
    first = failures[0]
    return f"{first.recording.uri} failed ({first.stage}, {first.reason}): {first.detail}"


def _heading(channels: list[Transcript]) -> Text:
    first = channels[0]
    heading = Text(one_line(first.recording.path), style="bold")
    heading.append(f"  {first.duration_s:.1f} s, {first.model}", style="dim")
    for one in channels:
        heading.append(f"\n{one.recording.recording_id}  {one.status}", style="dim")
        for reason in one.reasons:
            heading.append(f"\n  {reason}", style="yellow")
    return heading


def _lines(spoken: Document, rendering: RenderingConfig) -> Iterator[Text]:
    names = [speaker.name for speaker in spoken.speakers] if spoken.names_speakers else []
    colours = dict(zip(names, cycle(SPEAKER_COLOURS), strict=False))
    for utterance in utterances(spoken, rendering):
        yield _line(utterance, colours.get(utterance.speaker))


def _line(utterance: SpeakerUtterance, colour: str | None) -> Text:
    """Without a colour the speaker is not named."""
    line = Text(f"{_clock(utterance.start_s):>10}  ", style="dim")
    if colour is not None:
        line.append(f"{utterance.speaker}: ", style=f"bold not dim {colour}")
    words = ((word.text, _style(word.confidence)) for word in utterance.words)
    line.append_text(Text(" ").join(starmap(Text, words)))
    return line


def _style(confidence: float) -> str:
    if confidence >= SURE:
        return "default not dim"
    return "yellow not dim" if confidence >= UNSURE else "red underline not dim"


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:04.1f}"


JOB = Job(name="show", config=ShowConfig, run=show, positional=("run", "recording"))
