"""`nightscribe show RUN RECORDING`: one transcript on the terminal."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING
from rich.text import Text

from jobs.command import run_job
from jobs.config import Job
from jobs.terminal import console
from pipeline.reading.documents import conversations, document
from pipeline.records import Transcript
from pipeline.rendering.document import Document, RenderingConfig
from pipeline.rendering.formats import FORMATS, render
from pipeline.rendering.utterances import Utterance, utterances
from pipeline.storage.opening import S3Config
from pipeline.storage.published import find_failures, find_transcripts, open_run
from pipeline.storage.store import Store

SURE, UNSURE = 0.9, 0.6
COLOURS = "colours"


@dataclass(kw_only=True, slots=True)
class ShowConfig:
    """Print the transcript of one recording, doubtful words in colour."""

    run: str = field(default=MISSING, metadata={"help": "the output of a run: a folder or s3://"})
    recording: str = field(
        default=MISSING, metadata={"help": "its id, or a part of its file's name"}
    )
    format: str = field(default=COLOURS, metadata={"help": "how", "choices": (COLOURS, *FORMATS)})
    speakers: list[str] = field(
        default_factory=list, metadata={"help": "names of the channels, as in [Agent,Customer]"}
    )
    rendering: RenderingConfig = field(
        default_factory=RenderingConfig, metadata={"help": "lines, cues, utterances, paragraphs"}
    )
    s3: S3Config = field(default_factory=S3Config, metadata={"help": "how to reach object stores"})


def show(config: ShowConfig) -> int:
    channels = _found(config)
    spoken = document(channels[0].recording.uri, channels, config.speakers)
    if config.format != COLOURS:
        sys.stdout.write(render(spoken, config.format, config.rendering))
        return 0
    terminal = console(soft_wrap=True)
    terminal.print(_heading(channels))
    for line in _lines(spoken, config.rendering):
        terminal.print(line)
    return 0


def _found(config: ShowConfig) -> list[Transcript]:
    """All channels of the one file that is meant."""
    store = open_run(config.run, config.s3)
    files = list(conversations(find_transcripts(store, config.recording)))
    if not files:
        raise ValueError(_why_there_is_none(store, config))
    if len(files) > 1:
        names = ", ".join(file[0].recording.uri for file in files[:5])
        more = ", ..." if len(files) > 5 else ""
        raise ValueError(f"{config.recording} names {len(files)} recordings: {names}{more}")
    return files[0]


def _why_there_is_none(store: Store, config: ShowConfig) -> str:
    failures = find_failures(store, config.recording)
    if not failures:
        return f"no transcript in {config.run} is named {config.recording}"
    first = failures[0]
    return f"{first.recording.uri} failed ({first.stage}, {first.reason}): {first.detail}"


def _heading(channels: list[Transcript]) -> Text:
    first = channels[0]
    heading = Text(first.recording.uri, style="bold")
    heading.append(f"  {first.duration_s:.1f} s, {first.model}", style="dim")
    for one in channels:
        heading.append(f"\n{one.recording.recording_id}  {one.status}", style="dim")
        for reason in one.reasons:
            heading.append(f"\n  {reason}", style="yellow")
    return heading


def _lines(spoken: Document, rendering: RenderingConfig) -> Iterator[Text]:
    for utterance in utterances(spoken, rendering):
        yield _line(utterance, spoken.names_speakers)


def _line(utterance: Utterance, names_speaker: bool) -> Text:
    line = Text(f"{_clock(utterance.start_s):>10}  ", style="dim")
    if names_speaker:
        line.append(f"{utterance.speaker}: ", style="bold cyan")
    for word in utterance.words:
        line.append(word.text, style=_style(word.confidence))
        line.append(" ", style="default")
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


def main() -> None:
    run_job(JOB)


if __name__ == "__main__":
    main()
