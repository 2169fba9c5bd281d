"""Groups the channels of one file into one document: each channel is a speaker."""

from collections.abc import Iterable, Iterator, Sequence

from nightscribe.records import Recording, Transcript
from nightscribe.rendering.document import Document, Speaker


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
            Speaker(_speaker(one.recording, speakers), one.words, one.turn_ends_s, one.speech)
            for one in channels
        ),
    )


def _in_order(channels: list[Transcript]) -> list[Transcript]:
    return sorted(channels, key=lambda one: one.recording.channel or 0)


def _speaker(recording: Recording, speakers: Sequence[str]) -> str:
    if recording.channel is None:
        return ""
    if recording.channel < len(speakers):
        return speakers[recording.channel]
    return f"Speaker {recording.channel + 1}"
