"""Scores who speaks in a run against references: DER, JER, cpWER and tcpWER."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from nightscribe.reading.export import conversations
from nightscribe.reading.references import References
from nightscribe.reading.speaker_references import SpokenReference, spans_of_words
from nightscribe.records import Recording, SpeakerSpan, Transcript, Word
from nightscribe.scoring.speaker_errors import SpeakerErrors, speaker_errors
from nightscribe.scoring.speaker_word_errors import (
    SpeakerWordErrors,
    SpokenText,
    cp_word_errors,
    tcp_word_errors,
)
from nightscribe.scoring.word_errors import Normaliser, normaliser

# Words are normalised together until their speaker pauses for so long.
TURN_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerScore:
    """The errors of one file; those of words are None where the reference has no words."""

    recording: Recording
    duration_s: float
    times: SpeakerErrors
    cp: SpeakerWordErrors | None = None
    tcp: SpeakerWordErrors | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerEvaluation:
    """The files with a reference that names speakers."""

    scores: tuple[SpeakerScore, ...] = ()
    num_not_told_apart: int = 0  # files in which the run did not ask who speaks


def evaluate_speakers(
    transcripts: Iterable[Transcript],
    failed: Iterable[Transcript],
    references: References,
    default_language: str,
    collar_s: float = 0.0,
) -> SpeakerEvaluation:
    """Every file whose reference names speakers; of a failed one everything is missed."""
    if not references.names_speakers:
        return SpeakerEvaluation()
    scores, num_not_told_apart, is_told_apart = [], 0, False
    for channels in conversations(chain(transcripts, failed)):
        recording = channels[0].recording
        reference = references.spoken_in(recording)
        if reference is None:
            continue
        if any(one.words for one in channels) and not _tells_apart(channels):
            num_not_told_apart += 1
            continue
        is_told_apart |= any(one.words for one in channels)
        normalise = normaliser(recording.language or default_language)
        scores.append(_score(channels, reference, normalise, collar_s))
    kept = tuple(scores) if is_told_apart or not num_not_told_apart else ()
    return SpeakerEvaluation(scores=kept, num_not_told_apart=num_not_told_apart)


def speaker_totals(evaluation: SpeakerEvaluation) -> dict[str, Any] | None:
    """The errors of all files together; None if none was scored."""
    if not evaluation.scores:
        return None
    times = sum((one.times for one in evaluation.scores), SpeakerErrors())
    return {
        "num_recordings": times.num_recordings,
        "num_rightly_counted": times.num_rightly_counted,
        "reference_s": times.reference_s,
        "missed_s": times.missed_s,
        "false_alarm_s": times.false_alarm_s,
        "confused_s": times.confused_s,
        "diarization_error_rate": times.diarization_error_rate,
        "jaccard_error_rate": times.jaccard_error_rate,
        "cp_word_error_rate": _total_rate(one.cp for one in evaluation.scores),
        "tcp_word_error_rate": _total_rate(one.tcp for one in evaluation.scores),
    }


def speaker_columns(score: SpeakerScore | None) -> dict[str, Any]:
    """The columns of one file, which are empty where speakers were not scored."""
    times = score.times if score else SpeakerErrors()
    return {
        "diarization_error_rate": times.diarization_error_rate,
        "jaccard_error_rate": times.jaccard_error_rate,
        "num_speakers": times.num_speakers if score else None,
        "num_speakers_found": times.num_found if score else None,
        "cp_word_error_rate": score.cp.rate if score and score.cp else None,
        "tcp_word_error_rate": score.tcp.rate if score and score.tcp else None,
    }


def _total_rate(errors: Iterable[SpeakerWordErrors | None]) -> float | None:
    return sum((one for one in errors if one is not None), SpeakerWordErrors()).rate


def _tells_apart(channels: Sequence[Transcript]) -> bool:
    return len(channels) > 1 or any(one.speaker_spans for one in channels)


def _score(
    channels: Sequence[Transcript],
    reference: SpokenReference,
    normalise: Normaliser,
    collar_s: float,
) -> SpeakerScore:
    spans = [span for one in channels for span in _heard(one)]
    about = SpeakerScore(
        recording=channels[0].recording,
        duration_s=max(one.duration_s for one in channels),
        times=speaker_errors(reference.spans, spans, collar_s),
    )
    if not reference.words:
        return about
    true = list(_turns(reference.words, normalise))
    found = [turn for one in channels for turn in _turns(_words_by_speaker(one), normalise)]
    return replace(about, cp=cp_word_errors(true, found), tcp=tcp_word_errors(true, found))


def _heard(transcript: Transcript) -> Iterable[SpeakerSpan]:
    """Who speaks when in one channel; where nobody asked, the channel is one speaker."""
    if not transcript.speaker_spans:
        return spans_of_words(_words_by_speaker(transcript))
    return [
        replace(span, speaker=_name(transcript, span.speaker)) for span in transcript.speaker_spans
    ]


def _words_by_speaker(transcript: Transcript) -> list[Word]:
    return [replace(word, speaker=_name(transcript, word.speaker)) for word in transcript.words]


def _name(transcript: Transcript, speaker: str | None) -> str:
    """The label of a speaker, which another channel may have, too."""
    return f"{transcript.recording.channel} {speaker}"


def _turns(words: Iterable[Word], normalise: Normaliser) -> Iterator[SpokenText]:
    """The words of each speaker without a long pause, normalised together."""
    turns: dict[str | None, list[Word]] = {}
    for word in sorted(words, key=lambda word: word.start_s):
        turn = turns.setdefault(word.speaker, [])
        if turn and word.start_s - turn[-1].end_s > TURN_PAUSE_S:
            yield _spoken_text(turn, normalise)
            turn.clear()
        turn.append(word)
    yield from (_spoken_text(turn, normalise) for turn in turns.values())


def _spoken_text(words: Sequence[Word], normalise: Normaliser) -> SpokenText:
    text = normalise(" ".join(word.text for word in words))
    return SpokenText(words[0].speaker or "", text, words[0].start_s, words[-1].end_s)
