"""Renders the transcripts of a run as files, named like the audio and in the same folders.

The channels of one file are one document: each channel is a speaker.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath

from nightscribe.records import Recording, Transcript, path_of
from nightscribe.rendering.cues import ReadingSpeed, reading_speed
from nightscribe.rendering.document import Document, RenderingConfig, hours_clock, speakers_in
from nightscribe.rendering.formats import FORMATS, SUBTITLES, SUFFIXES, render
from nightscribe.storage.corrections import PERSON

DOCX = "docx"  # the only format that is no text
EXPORT_FORMATS = (*FORMATS, DOCX)


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file to write; it is named like the recording, with this suffix."""

    recording: Recording
    suffix: str
    content: bytes
    reading_speed: ReadingSpeed | None = None  # of subtitles


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The formats, how they are rendered, and the speaker names of the channels."""

    formats: Sequence[str]
    rendering: RenderingConfig
    speakers: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError(f"formats is empty; choose from {', '.join(EXPORT_FORMATS)}")
        for name in self.formats:
            if name not in EXPORT_FORMATS:
                raise ValueError(
                    f"unknown format {name!r}; choose from {', '.join(EXPORT_FORMATS)}"
                )


class ExportNames:
    """File names without suffix, like those of the audio, so that players find subtitles."""

    def __init__(self, uris: Iterable[str]) -> None:
        self._root: tuple[str, ...] | None = None
        self._stems: Counter[str] = Counter()
        for uri in dict.fromkeys(uris):
            parents = PurePosixPath(path_of(uri)).parts[:-1]
            self._root = parents if self._root is None else _common(self._root, parents)
            self._stems[_without_suffix(uri)] += 1

    def relative(self, recording: Recording) -> str:
        """The name relative to the folder that holds all recordings."""
        path = PurePosixPath(path_of(self.beside(recording)))
        parts = path.parts[len(self._root or ()) :]
        # Two dots are an ordinary name in a bucket, but leave the folder on a disk.
        return "/".join("__" if part == ".." else part for part in parts)

    def beside(self, recording: Recording) -> str:
        """The path of the audio without suffix; with it if two files differ in the suffix alone."""
        stem = _without_suffix(recording.uri)
        name = recording.uri if self._stems[stem] > 1 else stem
        if recording.start_s or recording.end_s is not None:
            end = "" if recording.end_s is None else f"{recording.end_s:.10g}"
            name += f".{recording.start_s:.10g}-{end}"
        # A manifest may name single channels of a file: each is exported by itself.
        if recording.channel is not None and recording.num_channels is None:
            name += f".channel{recording.channel}"
        return name


def export_files(
    transcripts: Iterable[Transcript], options: ExportOptions, names: ExportNames
) -> Iterator[ExportedFile]:
    """Every transcript in every format; the channels of one file are its speakers.

    A recording without words has no subtitles: players refuse an empty file.
    """
    if DOCX in options.formats:
        import_module("docx")  # where it is missing, nothing is written
    for channels in conversations(transcripts):
        recording = channels[0].recording
        name = PurePosixPath(names.relative(recording)).name
        rendered = document(name, channels, options.speakers)
        for format in options.formats:
            if format in SUBTITLES and not any(one.words for one in channels):
                continue
            speed = reading_speed(rendered, options.rendering) if format in SUBTITLES else None
            content = _content(rendered, channels, format, options.rendering)
            yield ExportedFile(recording, SUFFIXES.get(format, f".{format}"), content, speed)


def _content(
    rendered: Document, channels: Sequence[Transcript], format: str, config: RenderingConfig
) -> bytes:
    if format != DOCX:
        return render(rendered, format, config).encode()
    from nightscribe.rendering.docx_file import render_docx

    return render_docx(rendered, config, _about(channels))


def _about(channels: Sequence[Transcript]) -> list[tuple[str, str]]:
    """What a reader has to know of the recording."""
    first = channels[0]
    recording, start_s = first.recording, first.recording.start_s
    length_s = max(one.duration_s for one in channels)
    rows = [("Recording", recording.path), ("Length", hours_clock(length_s))]
    if start_s or recording.end_s is not None:
        rows.append(("From", f"{hours_clock(start_s)} of the file"))
    is_corrected = first.model == PERSON
    rows.append(
        ("Words", "corrected by a person" if is_corrected else f"by the model {first.model}")
    )
    return rows + [("Note", reason) for one in channels for reason in one.reasons]


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return first[:same]


def _without_suffix(uri: str) -> str:
    folder, slash, name = uri.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def conversations(transcripts: Iterable[Transcript]) -> Iterator[list[Transcript]]:
    """The transcripts of each file, in channel order, as soon as all its channels are there.

    Files of which a channel failed come last, with the channels that did not.
    """
    waiting: dict[str, list[Transcript]] = {}
    for transcript in transcripts:
        recording = transcript.recording
        if recording.num_channels is None:
            yield [transcript]
            continue
        channels = waiting.setdefault(recording.source_id, [])
        channels.append(transcript)
        if len(channels) == recording.num_channels:
            yield _in_order(waiting.pop(recording.source_id))
    yield from map(_in_order, waiting.values())


def document(name: str, channels: Sequence[Transcript], speakers: Sequence[str]) -> Document:
    """One document of all channels of a file; speakers without a name get a number."""
    return Document(
        name,
        tuple(
            speaker
            for one in channels
            for speaker in speakers_in(
                one.words,
                one.speaker_spans,
                channel_name=_speaker(one.recording, speakers),
                channel=one.recording.channel,
                turn_ends_s=one.turn_ends_s,
                speech=one.speech,
            )
        ),
        duration_s=max(one.duration_s for one in channels),
        uri=channels[0].recording.uri,
    )


def _in_order(channels: list[Transcript]) -> list[Transcript]:
    return sorted(channels, key=lambda one: one.recording.channel or 0)


def _speaker(recording: Recording, speakers: Sequence[str]) -> str:
    if recording.channel is None:
        return ""
    if recording.channel < len(speakers):
        return speakers[recording.channel]
    return f"Speaker {recording.channel + 1}"
