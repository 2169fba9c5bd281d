"""The page of one recording in a report; the channels of a file are one conversation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from nightscribe.reading.export import document
from nightscribe.records import Failure, Finding, Recording, Span, SpeakerSpan, Transcript, Word
from nightscribe.rendering.document import Document, RenderingConfig, one_line, utterances
from nightscribe.report.content import EmbeddedAudio, RecordingPage

# Of a file, the first that one of its channels has: a silent channel does not make it empty.
STATUS_ORDER = ("partial", "redecoded", "ok", "empty")

LoadAudio = Callable[[Recording, float], EmbeddedAudio | None]
Timed = TypeVar("Timed", Word, Finding, SpeakerSpan)


def page(
    channels: Sequence[Transcript],
    speakers: Sequence[str],
    word_error_rates: Mapping[str, float | None],
    load_audio: LoadAudio,
) -> RecordingPage:
    """Times on a page count from the start of the recording within its file, like its audio."""
    recording = _of_all(channels)
    offset_s = recording.start_s
    duration_s = max(one.duration_s for one in channels)
    conversation = document(recording.recording_id, channels, speakers)
    languages = dict.fromkeys(filter(None, map(_language, channels)))
    speech = sorted(span for one in channels for span in one.speech)
    findings = [
        one for channel in channels if channel.inspection for one in channel.inspection.findings
    ]
    return RecordingPage(
        recording_id=recording.recording_id,
        name=_name(recording),
        duration_s=duration_s,
        status=status_of(channels),
        reasons=tuple(_reasons(channels, speakers)),
        language=", ".join(languages) or None,
        speakers=_names(conversation),
        words=tuple(_shifted(word, offset_s) for word in _in_turns(channels, conversation)),
        speaker_spans=tuple(_shifted(span, offset_s) for span in _speaker_spans(conversation)),
        speech=tuple(Span(a - offset_s, b - offset_s) for a, b in speech),
        findings=tuple(
            _shifted(one, offset_s) for one in sorted(findings, key=lambda one: one.start_s)
        ),
        word_error_rate=word_error_rates.get(recording.source_id),
        reference=recording.text,
        audio=load_audio(recording, duration_s),
    )


def failed_page(failure: Failure) -> RecordingPage:
    return RecordingPage(
        recording_id=failure.recording.recording_id,
        name=_name(failure.recording),
        duration_s=failure.recording.expected_s or 0.0,
        status="failed",
        reasons=(f"{failure.stage}, {failure.reason}: {failure.detail}",),
        reference=failure.recording.text,
    )


def status_of(channels: Sequence[Transcript]) -> str:
    return min((one.status for one in channels), key=STATUS_ORDER.index)


def _of_all(channels: Sequence[Transcript]) -> Recording:
    """The file itself where it was split, so that its audio is that of all channels."""
    recording = channels[0].recording
    if recording.num_channels is None:
        return recording
    return replace(recording, channel=None, num_channels=None)


def _language(transcript: Transcript) -> str | None:
    inspection = transcript.inspection
    return inspection.detected_language if inspection else transcript.recording.language


def _reasons(channels: Sequence[Transcript], speakers: Sequence[str]) -> Iterator[str]:
    """Why the status is not ok; of several channels each with its name."""
    for one in channels:
        (speaker, *_) = document("", [one], speakers).speakers
        name = f"{speaker.name}: " if len(channels) > 1 else ""
        yield from (f"{name}{reason}" for reason in one.reasons)


def _names(conversation: Document) -> tuple[str, ...]:
    if not conversation.names_speakers:
        return ()
    return tuple(speaker.name for speaker in conversation.speakers)


def _speaker_spans(conversation: Document) -> list[SpeakerSpan]:
    """Who speaks when; a channel in which nobody was told apart speaks in its utterances."""
    if not conversation.names_speakers:
        return []
    known = {one.name for one in conversation.speakers if one.spans}
    spans = [
        SpeakerSpan(one.name, *span) for one in conversation.speakers for span in one.spans
    ] + [
        SpeakerSpan(one.speaker, one.start_s, one.end_s)
        for one in utterances(conversation, RenderingConfig())
        if one.speaker not in known
    ]
    return sorted(spans, key=lambda span: (span.start_s, span.end_s))


def _in_turns(channels: Sequence[Transcript], conversation: Document) -> Iterator[Word]:
    """All words; those of several speakers as they take turns, each with its speaker."""
    if not conversation.names_speakers:
        yield from channels[0].words
        return
    for utterance in utterances(conversation, RenderingConfig()):
        yield from (replace(word, speaker=utterance.speaker) for word in utterance.words)


def _name(recording: Recording) -> str:
    name = one_line(recording.path)
    name = name if recording.channel is None else f"{name} [{recording.channel}]"
    return f"{name} from {recording.start_s:g} s" if recording.start_s else name


def _shifted(timed: Timed, offset_s: float) -> Timed:
    start_s, end_s = (max(time_s - offset_s, 0.0) for time_s in (timed.start_s, timed.end_s))
    return replace(timed, start_s=start_s, end_s=end_s)
