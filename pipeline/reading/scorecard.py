"""An evaluation as it is kept beside its run: one row for each recording, and the totals."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from nightscribe.reading.evaluating import Evaluation, Said
from nightscribe.scoring.word_errors import CorpusScore, PairScore
from nightscribe.scoring.word_times import time_errors
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store
from nightscribe.storage.tables import parquet_bytes

ROWS_KEY = "_run/evaluation.parquet"
TOTALS_KEY = "_run/evaluation.json"
MAX_CONFUSIONS = 50

Totals = Mapping[str, Any]


def write_scorecard(store: Store, evaluation: Evaluation) -> None:
    """Keep the evaluation; a later one takes its place."""
    store.write(ROWS_KEY, parquet_bytes(pa.Table.from_pylist(rows(evaluation))))
    document = json.dumps(totals(evaluation), indent=2, ensure_ascii=False)
    store.write(TOTALS_KEY, document.encode() + b"\n")


def read_totals(store: Store) -> Totals | None:
    """The totals of the last evaluation of this run, if there was one."""
    try:
        return json.loads(store.read(TOTALS_KEY))
    except StorageError as error:
        if error.reason == "not_found":
            return None
        raise


def rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row for each recording, the worst first; translations, which have no errors, last."""
    said = {one.pair.recording_id: one for one in evaluation.said}
    raw = {score.pair.recording_id: score for score in evaluation.raw.pairs}
    worst = evaluation.normalised.worst(len(said))
    scored = [_row(score, raw[score.pair.recording_id]) for score in worst]
    translated = [{"recording_id": name} for name in said.keys() - raw.keys()]
    return [row | _about(said[row["recording_id"]]) for row in scored + translated]


def totals(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that is one number, and the commonest confusions."""
    times, translation = evaluation.times, evaluation.translation
    confusions = evaluation.normalised.confusions
    return {
        "num_recordings": len(evaluation.said),
        "duration_s": evaluation.duration_s,
        "times_real_time": evaluation.pace.times_real_time,
        "occupancy": evaluation.pace.occupancy,
        "normalised": _rates(evaluation.normalised),
        "raw": _rates(evaluation.raw),
        "by_language": {name: _rates(score) for name, score in evaluation.by_language.items()},
        "bleu": translation.bleu if translation else None,
        "bleu_signature": translation.signature if translation else None,
        "num_timed_words": times.num_words if times else 0,
        "start_error_median_s": times.median_s if times else None,
        "start_error_p90_s": times.p90_s if times else None,
        "start_shift_median_s": times.median_shift_s if times else None,
        "substitutions": _commonest(confusions.substitutions),
        "deletions": _commonest(confusions.deletions),
        "insertions": _commonest(confusions.insertions),
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


def _about(said: Said) -> dict[str, Any]:
    times = time_errors(said.shifts_s)
    return {
        "uri": said.name,
        "language": said.language,
        "domain": said.domain,
        "duration_s": said.pair.duration_s,
        "start_error_median_s": times.median_s if times else None,
        "start_error_p90_s": times.p90_s if times else None,
        "reference": said.pair.reference,
        "heard": said.pair.hypothesis,
    }


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


def _commonest(counts: Counter[Any]) -> list[list[Any]]:
    return [[_written(words), times] for words, times in counts.most_common(MAX_CONFUSIONS)]


def _written(words: str | Iterable[str]) -> str:
    return words if isinstance(words, str) else " -> ".join(words)
