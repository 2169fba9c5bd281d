"""Evaluates a run against reference transcripts, and stores the scores beside it.

The scores are one row for each file, and totals with the most frequent confusions.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa

from nightscribe.reading.export import conversations
from nightscribe.reading.references import FileKey, Reference, References, file_key
from nightscribe.reading.run_status import SCORES_KEY, TOTALS_KEY, RunThroughput
from nightscribe.reading.speaker_evaluation import (
    SpeakerEvaluation,
    SpeakerScore,
    speaker_columns,
    speaker_totals,
)
from nightscribe.records import Failure, Recording, Transcript
from nightscribe.scoring.bleu import BleuScore, score_bleu
from nightscribe.scoring.leaderboard import LeaderboardScore, score_leaderboard
from nightscribe.scoring.word_errors import (
    CorpusScore,
    PairScore,
    TextPair,
    as_written,
    combine_scores,
    is_english,
    normaliser,
    score_corpus,
)
from nightscribe.scoring.word_times import TimeErrors, start_shifts_s, time_errors
from nightscribe.storage.store import Store
from nightscribe.storage.tables import parquet_bytes

MAX_CONFUSIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedFile:
    """One file with a reference, or one channel of it: both texts and where they come from."""

    pair: TextPair
    reference: Reference
    name: str
    language: str
    domain: str | None
    shifts_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All scores of a run; transcription and translation are scored separately."""

    files: tuple[EvaluatedFile, ...]
    raw: CorpusScore
    normalised: CorpusScore
    by_language: Mapping[str, CorpusScore]
    leaderboard: LeaderboardScore | None  # of the English files; None if there are none
    translation: BleuScore | None
    times: TimeErrors | None
    throughput: RunThroughput
    speakers: SpeakerEvaluation

    @property
    def duration_s(self) -> float:
        return sum(one.pair.duration_s for one in self.files)


def files_to_evaluate(
    transcripts: Iterable[Transcript],
    failures: Iterable[Failure],
    references: References,
    default_language: str,
) -> Iterator[EvaluatedFile]:
    """Every file or channel with a reference; the hypothesis of a failed one is empty."""
    num_channels = references.num_channels()
    failed = empty_transcripts(failures, num_channels)
    for channels in conversations(chain(transcripts, failed)):
        yield from _with_reference(channels, references, default_language)


def evaluate(
    files: Sequence[EvaluatedFile],
    translated_domains: Sequence[str],
    throughput: RunThroughput | None = None,
    speakers: SpeakerEvaluation | None = None,
) -> Evaluation:
    """WER, CER and word times by language; BLEU alone for translated domains."""
    speakers = speakers or SpeakerEvaluation()
    if not files and not speakers.scores:
        raise ValueError("no recording has a reference: nothing to evaluate")
    translated = [one.pair for one in files if one.domain in translated_domains]
    transcribed = [one for one in files if one.domain not in translated_domains]
    by_language = {
        language: score_corpus(pairs, normaliser(language))
        for language, pairs in _by_language(transcribed).items()
    }
    english = [one.pair for one in transcribed if is_english(one.language)]
    return Evaluation(
        files=tuple(files),
        raw=score_corpus([one.pair for one in transcribed], as_written),
        normalised=combine_scores(by_language.values()),
        by_language=by_language,
        leaderboard=score_leaderboard(english) if english else None,
        translation=score_bleu(translated) if translated else None,
        times=time_errors([shift_s for one in transcribed for shift_s in one.shifts_s]),
        throughput=throughput or RunThroughput(),
        speakers=speakers,
    )


def empty_transcripts(
    failures: Iterable[Failure], num_channels: Mapping[FileKey, int]
) -> Iterator[Transcript]:
    """Transcripts without a word for the recordings that failed."""
    return (
        empty
        for failure in failures
        if failure.shard is None  # a recording with a failed shard has a transcript
        for empty in _empty_transcripts(failure.recording, num_channels)
    )


def _empty_transcripts(
    recording: Recording, num_channels: Mapping[FileKey, int]
) -> Iterator[Transcript]:
    """One for each channel with a reference of its own, or one for the file."""
    count = num_channels.get(file_key(recording), 0) if recording.channel is None else 0
    for one in recording.split(count) or (recording,):
        yield Transcript(
            recording=one,
            duration_s=one.expected_s or 0.0,
            status="empty",
            words=(),
            num_shards=0,
            model="",
            model_revision="",
        )


def _with_reference(
    channels: Sequence[Transcript], references: References, default_language: str
) -> Iterator[EvaluatedFile]:
    together = []
    for one in channels:
        reference = references.of_channel(one.recording)
        if reference is None:
            together.append(one)
        else:
            name = one.recording.recording_id
            yield _evaluated_file([one], reference, name, default_language)
    if together:
        recording = together[0].recording
        reference = references.of_file(recording)
        if reference is not None:
            yield _evaluated_file(together, reference, recording.source_id, default_language)


def _evaluated_file(
    channels: Sequence[Transcript], reference: Reference, name: str, default_language: str
) -> EvaluatedFile:
    recording = channels[0].recording
    words = sorted((word for one in channels for word in one.words), key=lambda w: w.start_s)
    hypothesis = " ".join(word.text for word in words)
    duration_s = max(one.duration_s for one in channels)
    return EvaluatedFile(
        pair=TextPair(name, reference.text, hypothesis, duration_s),
        reference=reference,
        name=recording.uri,
        language=recording.language or default_language,
        domain=recording.domain,
        shifts_s=tuple(start_shifts_s(reference.words, words)),
    )


def _by_language(files: Iterable[EvaluatedFile]) -> dict[str, list[TextPair]]:
    pairs: dict[str, list[TextPair]] = defaultdict(list)
    for one in files:
        pairs[one.language].append(one.pair)
    return pairs


def write_evaluation(store: Store, evaluation: Evaluation) -> None:
    """Store the scores; those of an earlier evaluation are replaced."""
    store.write(SCORES_KEY, parquet_bytes(pa.Table.from_pylist(rows(evaluation))))
    document = json.dumps(totals(evaluation), indent=2, ensure_ascii=False)
    store.write(TOTALS_KEY, document.encode() + b"\n")


def rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row for each file, highest WER first; those that have none last."""
    files = {one.pair.recording_id: one for one in evaluation.files}
    raw = {score.pair.recording_id: score for score in evaluation.raw.pairs}
    worst = evaluation.normalised.worst(len(files))
    scored = [_row(score, raw[score.pair.recording_id]) for score in worst]
    translated = [{"recording_id": name} for name in files.keys() - raw.keys()]
    spoken = {one.recording.source_id: one for one in evaluation.speakers.scores}
    with_text = [
        row | _about(files[row["recording_id"]]) | speaker_columns(spoken.get(row["recording_id"]))
        for row in scored + translated
    ]
    return with_text + [_only_speakers(spoken[name]) for name in spoken.keys() - files.keys()]


def totals(evaluation: Evaluation) -> dict[str, Any]:
    """All corpus scores, and the most frequent confusions."""
    times, translation = evaluation.times, evaluation.translation
    confusions = evaluation.normalised.confusions
    return {
        "num_recordings": len(evaluation.files),
        "duration_s": evaluation.duration_s,
        "times_real_time": evaluation.throughput.times_real_time,
        "occupancy": evaluation.throughput.occupancy,
        "normalised": _rates(evaluation.normalised),
        "raw": _rates(evaluation.raw),
        "leaderboard_2026": _leaderboard_rates(evaluation.leaderboard),
        "by_language": {name: _rates(score) for name, score in evaluation.by_language.items()},
        "bleu": translation.bleu if translation else None,
        "bleu_signature": translation.signature if translation else None,
        "num_timed_words": times.num_words if times else 0,
        "start_error_median_s": times.median_s if times else None,
        "start_error_p90_s": times.p90_s if times else None,
        "start_shift_median_s": times.median_shift_s if times else None,
        "substitutions": _most_frequent(confusions.substitutions),
        "deletions": _most_frequent(confusions.deletions),
        "insertions": _most_frequent(confusions.insertions),
        "speakers": speaker_totals(evaluation.speakers),
    }


def _row(normalised: PairScore, raw: PairScore) -> dict[str, Any]:
    words = normalised.words
    return {
        "recording_id": normalised.pair.recording_id,
        "word_error_rate": words.rate,
        "character_error_rate": normalised.characters.rate,
        "raw_word_error_rate": raw.words.rate,
        "reference_words": words.num_reference,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
    }


def _about(file: EvaluatedFile) -> dict[str, Any]:
    times = time_errors(file.shifts_s)
    return {
        "uri": file.name,
        "language": file.language,
        "domain": file.domain,
        "duration_s": file.pair.duration_s,
        "start_error_median_s": times.median_s if times else None,
        "start_error_p90_s": times.p90_s if times else None,
        "reference": file.pair.reference,
        "hypothesis": file.pair.hypothesis,
    }


def _only_speakers(score: SpeakerScore) -> dict[str, Any]:
    return {
        "recording_id": score.recording.source_id,
        "word_error_rate": None,
        "uri": score.recording.uri,
        "duration_s": score.duration_s,
    } | speaker_columns(score)


def _rates(score: CorpusScore) -> dict[str, Any]:
    return {
        "word_error_rate": score.words.rate,
        "mean_word_error_rate": score.mean_word_error_rate,
        "character_error_rate": score.characters.rate,
        "reference_words": score.words.num_reference,
        "substitutions": score.words.substitutions,
        "deletions": score.words.deletions,
        "insertions": score.words.insertions,
    }


def _leaderboard_rates(score: LeaderboardScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {
        "word_error_rate": score.rate,
        "reference_words": score.num_reference,
        "errors": score.num_errors,
    }


def _most_frequent(counts: Counter[Any]) -> list[list[Any]]:
    return [[_written(words), times] for words, times in counts.most_common(MAX_CONFUSIONS)]


def _written(words: str | Iterable[str]) -> str:
    return words if isinstance(words, str) else " -> ".join(words)
