"""From the voices of a whole recording to its speakers, and from these to the words.

Needs a few hundred bytes for each second of speech, and nothing of the sound.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nightscribe.records import Span, Speaker, SpeakerSpan, Transcript, Voice, Word
from nightscribe.speakers.clustering import (
    ClusteringLimits,
    Labels,
    Vectors,
    centres,
    cluster,
    in_order,
    refined,
)
from nightscribe.speakers.config import SpeakersConfig

# Spans of one speaker with a shorter pause between them are one.
JOINED_PAUSE_S = 0.5
# How much a voice says about who speaks right after it; less the longer the pause is.
NEXT_SHARE, NEXT_PAUSE_S = 0.2, 0.3
# Voices with less sound of their own are left out when clusters are formed, and join one later.
MIN_CLUSTERED_S = 0.8
# A word of the model may last until the next one; its speaker is who speaks in its first part.
MAX_WORD_S = 0.6
# Times of voices are rounded to frames: an overlap as short as this is none.
ROUNDED_S = 0.1


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who speaks when in one recording, and what each speaker sounds like."""

    spans: tuple[SpeakerSpan, ...]  # by start; those of different speakers may overlap
    vectors: dict[str, Vectors]  # of length 1


def add_speakers(transcript: Transcript, config: SpeakersConfig) -> Transcript:
    """The transcript with its speakers, and without the voices that they were found by."""
    if not config.is_on:
        return transcript
    found = diarize(transcript.voices, _bounded(config, transcript.recording.num_speakers))
    words = with_speakers(transcript.words, found.spans)
    speakers = tuple(
        replace(one, vector=found.vectors[one.name].astype(np.float32).tobytes())
        for one in speakers_of(words, found.spans)
    )
    return replace(transcript, voices=(), words=words, speakers=speakers, speaker_spans=found.spans)


def _bounded(config: SpeakersConfig, num_speakers: int | None) -> SpeakersConfig:
    """What the manifest says about one recording counts before the bounds of the run."""
    if num_speakers is None:
        return config
    return replace(config, min=num_speakers, max=num_speakers)


def diarize(voices: Sequence[Voice], config: SpeakersConfig) -> Diarization:
    """The speakers of a recording, named in the order in which they first speak."""
    voices = sorted(voices, key=lambda voice: voice.spans)
    if not voices:
        return Diarization((), {})
    vectors_VD = np.stack([vector_of(voice) for voice in voices])
    seconds_V = np.array([voice.clean_s for voice in voices])
    labels_V = _labels(vectors_VD, seconds_V, _shares(voices), config)
    labels_V = in_order(_apart_where_simultaneous(voices, vectors_VD, seconds_V, labels_V))
    centres_CD = centres(vectors_VD, seconds_V, labels_V)
    return Diarization(
        tuple(_spans(voices, labels_V)),
        {speaker_name(label): centre_D for label, centre_D in enumerate(centres_CD)},
    )


def vector_of(voice: Voice) -> Vectors:
    return np.frombuffer(voice.vector, np.float16).astype(np.float32)


def speaker_name(label: int) -> str:
    return f"speaker-{label + 1}"


def with_speakers(words: Iterable[Word], spans: Sequence[SpeakerSpan]) -> tuple[Word, ...]:
    """The words, each with the speaker who speaks longest during it, or nearest to it."""
    if not spans:
        return tuple(words)
    index = _SpanIndex(spans)
    named: list[Word] = []
    for word in words:
        before = named[-1].speaker if named else None
        named.append(replace(word, speaker=index.speaker_of(word, before)))
    return tuple(named)


def speakers_of(words: Iterable[Word], spans: Sequence[SpeakerSpan]) -> tuple[Speaker, ...]:
    """Each speaker with the seconds and words it speaks, in the order of the names."""
    seconds: Counter[str] = Counter()
    for span in spans:
        seconds[span.speaker] += span.end_s - span.start_s  # type: ignore[assignment]
    num_words = Counter(word.speaker for word in words)
    order = dict.fromkeys(span.speaker for span in spans)
    return tuple(Speaker(name, round(float(seconds[name]), 3), num_words[name]) for name in order)


def overlaps(spans: Sequence[SpeakerSpan]) -> list[Span]:
    """Where at least two speakers speak at once."""
    edges = sorted(edge for span in spans for edge in ((span.start_s, 1), (span.end_s, -1)))
    found: list[Span] = []
    num_speaking, began_s = 0, 0.0
    for time_s, change in edges:
        if num_speaking >= 2 and num_speaking + change < 2 and time_s > began_s:
            found.append(Span(began_s, time_s))
        if num_speaking < 2 <= num_speaking + change:
            began_s = time_s
        num_speaking += change
    return found


def _labels(
    vectors_VD: Vectors, seconds_V: NDArray, shares_V: NDArray, config: SpeakersConfig
) -> Labels:
    """Clusters of the voices that are heard well, which the others then join."""
    limits = ClusteringLimits(
        same_voice=config.same_voice, min_clusters=config.min, max_clusters=config.max
    )
    is_clear_V = seconds_V >= min(MIN_CLUSTERED_S, float(seconds_V.max()))
    clear_VD, clear_s = vectors_VD[is_clear_V], seconds_V[is_clear_V]
    labels_C = cluster(clear_VD, clear_s, limits)
    labels_C = _without_small(clear_VD, clear_s, labels_C, config)
    return refined(vectors_VD, seconds_V, labels_C, is_clear_V, shares_V)


def _shares(voices: Sequence[Voice]) -> NDArray[np.float64]:
    """How much each voice and the one after it say about each other.

    Voices that speak at once say nothing: they are two speakers.
    """
    starts_s = np.array([voice.spans[0].start_s for voice in voices])
    ends_s = np.array([voice.spans[-1].end_s for voice in voices])
    pauses_s = starts_s[1:] - ends_s[:-1]
    shares_V = NEXT_SHARE * np.exp(-pauses_s.clip(min=0) / NEXT_PAUSE_S)
    return np.where(pauses_s > -ROUNDED_S, shares_V, 0.0)


def _without_small(
    vectors_VD: Vectors, seconds_V: NDArray, labels_V: Labels, config: SpeakersConfig
) -> Labels:
    """Clusters with little speech join the most alike of the others."""
    seconds_C = np.bincount(labels_V, weights=seconds_V)
    num_kept = max(int((seconds_C >= config.min_speaker_s).sum()), min(config.min, len(seconds_C)))
    kept_C = np.sort(np.argsort(-seconds_C, kind="stable")[: max(num_kept, 1)])
    nearest_V = kept_C[(vectors_VD @ centres(vectors_VD, seconds_V, labels_V)[kept_C].T).argmax(1)]
    return in_order(np.where(np.isin(labels_V, kept_C), labels_V, nearest_V))


def _apart_where_simultaneous(
    voices: Sequence[Voice], vectors_VD: Vectors, seconds_V: NDArray, labels_V: Labels
) -> Labels:
    """Of two voices that speak at once with one label, the less clear one gets the next best."""
    centres_CD = centres(vectors_VD, seconds_V, labels_V)
    if len(centres_CD) < 2:
        return labels_V
    labels_V = labels_V.copy()
    for one, other in _simultaneous(voices):
        if labels_V[one] == labels_V[other]:
            moved = min(one, other, key=lambda place: seconds_V[place])
            alike_C = centres_CD @ vectors_VD[moved]
            alike_C[labels_V[moved]] = -np.inf
            labels_V[moved] = alike_C.argmax()
    return labels_V


def _simultaneous(voices: Sequence[Voice]) -> Iterator[tuple[int, int]]:
    """Pairs of voices that overlap by more than the rounding of their times."""
    for one, voice in enumerate(voices):
        for other in range(one + 1, len(voices)):
            if voices[other].spans[0].start_s >= voice.spans[-1].end_s:
                break
            if overlap_s(voice.spans, voices[other].spans) > ROUNDED_S:
                yield one, other


def overlap_s(some: Sequence[Span], others: Sequence[Span]) -> float:
    """How long both speak at once."""
    return sum(
        max(min(a.end_s, b.end_s) - max(a.start_s, b.start_s), 0.0) for a in some for b in others
    )


def _spans(voices: Sequence[Voice], labels_V: Labels) -> Iterator[SpeakerSpan]:
    by_label: dict[int, list[Span]] = {}
    for voice, label in zip(voices, labels_V.tolist(), strict=True):
        by_label.setdefault(label, []).extend(voice.spans)
    joined = [
        SpeakerSpan(speaker_name(label), span.start_s, span.end_s)
        for label, spans in by_label.items()
        for span in _joined(spans)
    ]
    yield from sorted(joined, key=lambda one: (one.start_s, one.end_s, one.speaker))


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start_s - joined[-1].end_s <= JOINED_PAUSE_S:
            joined[-1] = Span(joined[-1].start_s, max(joined[-1].end_s, span.end_s))
        else:
            joined.append(span)
    return joined


class _SpanIndex:
    """Finds the spans near a time; spans are short, so few of them have to be looked at."""

    def __init__(self, spans: Sequence[SpeakerSpan]) -> None:
        self._spans = sorted(spans, key=lambda span: span.start_s)
        self._starts_s = [span.start_s for span in self._spans]
        self._longest_s = max(span.end_s - span.start_s for span in self._spans)

    def speaker_of(self, word: Word, before: str | None) -> str:
        """Ties go to the speaker of the word before."""
        start_s, end_s = word.start_s, min(word.end_s, word.start_s + MAX_WORD_S)
        shares: Counter[str] = Counter()
        for span in self._near(start_s, end_s):
            inside_s = min(span.end_s, end_s) - max(span.start_s, start_s)
            if inside_s > 0:
                shares[span.speaker] += inside_s  # type: ignore[assignment]
        if shares:
            return max(shares, key=lambda name: (round(shares[name], 3), name == before))
        return self._nearest((start_s + end_s) / 2)

    def _near(self, start_s: float, end_s: float) -> Sequence[SpeakerSpan]:
        first = bisect_left(self._starts_s, start_s - self._longest_s)
        return self._spans[first : bisect_left(self._starts_s, end_s)]

    def _nearest(self, time_s: float) -> str:
        after = bisect_left(self._starts_s, time_s)
        first = bisect_left(self._starts_s, time_s - self._longest_s - 10.0)
        candidates = self._spans[max(min(first, after - 1), 0) : after + 1]
        return min(
            candidates, key=lambda span: max(span.start_s - time_s, time_s - span.end_s)
        ).speaker
