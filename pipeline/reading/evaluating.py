"""A run held against what was really said."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nightscribe.reading.documents import conversations
from nightscribe.reading.pace import Pace
from nightscribe.reading.references import Reference, References
from nightscribe.records import Failure, Recording, Transcript
from nightscribe.scoring.bleu import BleuScore, score_bleu
from nightscribe.scoring.word_errors import (
    CorpusScore,
    TextPair,
    as_written,
    combine_scores,
    normaliser,
    score_corpus,
)
from nightscribe.scoring.word_times import TimeErrors, start_shifts_s, time_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One file with a reference: the pair of texts and what they are about."""

    pair: TextPair
    name: str
    language: str
    domain: str | None
    shifts_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All scores of a run; transcription and translation are counted apart."""

    said: tuple[Said, ...]
    raw: CorpusScore
    normalised: CorpusScore
    by_language: Mapping[str, CorpusScore]
    translation: BleuScore | None
    times: TimeErrors | None
    pace: Pace

    @property
    def duration_s(self) -> float:
        return sum(said.pair.duration_s for said in self.said)


def everything_said(
    transcripts: Iterable[Transcript],
    failures: Iterable[Failure],
    references: References,
    default_language: str,
) -> Iterator[Said]:
    """Every file with a reference, or channel of one; what failed said nothing."""
    heard = set()
    for channels in conversations(transcripts):
        heard.add(channels[0].recording.source_id)
        yield from _said(channels, references, default_language)
    for failure in failures:
        recording = failure.recording
        if recording.source_id not in heard:
            heard.add(recording.source_id)
            yield from _said([_nothing_heard(recording)], references, default_language)


def evaluate(
    said: Sequence[Said], translated_domains: Sequence[str], pace: Pace | None = None
) -> Evaluation:
    """Score the recordings in their own languages; translations by BLEU alone."""
    if not said:
        raise ValueError("no recording has a reference: nothing to evaluate")
    translated = [one.pair for one in said if one.domain in translated_domains]
    transcribed = [one for one in said if one.domain not in translated_domains]
    by_language = {
        language: score_corpus(pairs, normaliser(language))
        for language, pairs in _by_language(transcribed).items()
    }
    return Evaluation(
        said=tuple(said),
        raw=score_corpus([one.pair for one in transcribed], as_written),
        normalised=combine_scores(by_language.values()),
        by_language=by_language,
        translation=score_bleu(translated) if translated else None,
        times=time_errors([shift_s for one in transcribed for shift_s in one.shifts_s]),
        pace=pace or Pace(),
    )


def _nothing_heard(recording: Recording) -> Transcript:
    return Transcript(
        recording=recording,
        duration_s=recording.expected_s or 0.0,
        status="empty",
        words=(),
        num_shards=0,
        model="",
        model_revision="",
    )


def _said(
    channels: Sequence[Transcript], references: References, default_language: str
) -> Iterator[Said]:
    together = []
    for one in channels:
        reference = references.of_channel(one.recording)
        if reference is None:
            together.append(one)
        else:
            name = one.recording.recording_id
            yield _compared([one], reference, name, default_language)
    if together:
        recording = together[0].recording
        reference = references.of_file(recording)
        if reference is not None:
            yield _compared(together, reference, recording.source_id, default_language)


def _compared(
    channels: Sequence[Transcript], reference: Reference, name: str, default_language: str
) -> Said:
    recording = channels[0].recording
    words = sorted((word for one in channels for word in one.words), key=lambda w: w.start_s)
    heard = " ".join(word.text for word in words)
    duration_s = max(one.duration_s for one in channels)
    return Said(
        pair=TextPair(name, reference.text, heard, duration_s),
        name=recording.uri,
        language=recording.language or default_language,
        domain=recording.domain,
        shifts_s=tuple(start_shifts_s(reference.words, words)),
    )


def _by_language(said: Iterable[Said]) -> dict[str, list[TextPair]]:
    pairs: dict[str, list[TextPair]] = defaultdict(list)
    for one in said:
        pairs[one.language].append(one.pair)
    return pairs
