"""Corrections by people: transcripts with new words, which no machine replaces.

A correction is a revision of one transcript: its row is added with the number of a new generation,
and the row that it corrects is kept beside the run. The plan marks the recording as corrected, so
that later revisions leave it alone.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.records import Transcript, Word
from nightscribe.storage.current_plan import CurrentPlan, read_current
from nightscribe.storage.generations import Generation, append, now, sha256_of
from nightscribe.storage.manifests import named_rows, timed_words
from nightscribe.storage.result_tables import planned_id, publish_transcripts, read_transcripts
from nightscribe.storage.retiring import retire
from nightscribe.storage.schema import PLAN_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import open_writer
from nightscribe.storage.voices import copy_voices

NAMES = ("id", "recording_id", "uri", "path")
PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """New words for one transcript, named by its id or by its file; times are optional."""

    where: str  # the row, for messages
    name: str
    text: str | None = None
    words: tuple[Word, ...] = ()


def read_corrections(name: str, file: BinaryIO) -> Iterator[Correction]:
    """The rows of a manifest with `id` or `uri`, and `text` or `words`."""
    for where, row in named_rows(name, file):
        given = [str(row[column]) for column in NAMES if row.get(column)]
        if not given:
            raise ValueError(f"{where}: no recording is named; expected a column id or uri")
        if row.get("words"):
            words = timed_words(row["words"], where)
            yield Correction(where=where, name=given[0], words=words)
        elif row.get("text") is not None:
            yield Correction(where=where, name=given[0], text=str(row["text"]))
        else:
            raise ValueError(f"{where}: nothing is corrected; expected a column text or words")


def correct(
    store: Store,
    corrections: Iterable[Correction],
    by: str,
    check_lease: Callable[[], None],
    grace_s: float,
) -> int:
    """Store corrections as one generation; ValueError, before anything is stored, for unknown ids.

    The caller holds the lease. Returns the number of transcripts that changed.
    """
    found = list(_matched(store, list(corrections)))
    corrected = [
        _corrected(transcript, one, by) for transcript, one in found if _differs(transcript, one)
    ]
    if not corrected:
        return 0
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        number = _mark_corrected(store, corrected, Path(folder))
    check_lease()
    numbered = [
        replace(one, recording=replace(one.recording, revision=number)) for one in corrected
    ]
    copy_voices(store, {one.recording.recording_id: number for one in numbered if one.speakers})
    publish_transcripts(store, numbered)
    retire(store, check_lease, grace_s, is_settled=False)
    return len(corrected)


def _matched(
    store: Store, corrections: Sequence[Correction]
) -> Iterator[tuple[Transcript, Correction]]:
    """The transcripts that are corrected; each correction must name exactly one."""
    by_name = {one.name: one for one in corrections}
    found: Counter[str] = Counter()
    pairs = []
    for transcript in read_transcripts(store):
        recording = transcript.recording
        for name in {recording.recording_id, recording.uri, recording.path} & by_name.keys():
            found[name] += 1
            pairs.append((transcript, by_name[name]))
    unknown = [one for one in corrections if not found[one.name]]
    if unknown:
        raise ValueError(_named(unknown, "names no transcript of this run"))
    ambiguous = [one for one in corrections if found[one.name] > 1]
    if ambiguous:
        raise ValueError(_named(ambiguous, "names several transcripts: use the column id"))
    yield from pairs


def _named(wrong: Sequence[Correction], what: str) -> str:
    first = wrong[0]
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{first.where}: {first.name} {what}{more}"


def _differs(transcript: Transcript, one: Correction) -> bool:
    if one.words:
        return one.words != transcript.words
    return (one.text or "").split() != [word.text for word in transcript.words]


def _corrected(transcript: Transcript, one: Correction, by: str) -> Transcript:
    words = one.words or tuple(retimed((one.text or "").split(), transcript))
    return replace(
        transcript,
        words=words,
        status="ok" if words else "empty",
        reasons=("corrected by a person",),
        model=PERSON,
        model_revision=by,
        inspection=None,
        duplicate_of=None,
    )


def retimed(texts: Sequence[str], transcript: Transcript) -> Iterator[Word]:
    """Words that stayed keep their times; the others share the time between their neighbours."""
    before = transcript.words
    matcher = SequenceMatcher(
        None, [_plain(word.text) for word in before], [_plain(text) for text in texts], False
    )
    end_of_file_s = transcript.recording.start_s + transcript.duration_s
    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        some = texts[new_start:new_end]
        if kind == "equal":
            for word, text in zip(before[old_start:old_end], some, strict=True):
                yield replace(word, text=text, confidence=1.0)
            continue
        start_s, end_s = _gap(
            before, old_start, old_end, transcript.recording.start_s, end_of_file_s
        )
        each_s = (end_s - start_s) / max(len(some), 1)
        for place, text in enumerate(some):
            begin_s = round(start_s + place * each_s, 3)
            yield Word(text, begin_s, max(round(begin_s + each_s, 3), begin_s), 1.0)


def _gap(
    words: Sequence[Word], start: int, end: int, first_s: float, last_s: float
) -> tuple[float, float]:
    """The time of the words that are replaced, or between those beside an insertion."""
    if start < end:
        return words[start].start_s, words[end - 1].end_s
    start_s = words[start - 1].end_s if start else first_s
    end_s = words[start].start_s if start < len(words) else last_s
    return start_s, max(start_s, end_s)


def _plain(text: str) -> str:
    return text.casefold().strip(".,;:!?\"'")


def _mark_corrected(store: Store, corrected: Sequence[Transcript], folder: Path) -> int:
    """Append a generation that says so; its number."""
    before = read_current(store, folder)
    last, number = before.generations[-1], before.number + 1
    names = pa.array(sorted({_planned(one) for one in corrected}), pa.string())
    rows = folder / "corrected.parquet"
    num_rows = _write_marks(before, names, rows)
    append(
        store,
        Generation(
            number=number,
            sha256=sha256_of(rows),
            revision=last.revision,
            settings=last.settings,
            where=last.where,
            num_by_change={"corrected": num_rows},
            num_recordings=before.num_recordings,
            began_at=now(),
        ),
        rows,
    )
    return number


def _write_marks(before: CurrentPlan, names: pa.Array, path: Path) -> int:
    """The rows as they are: nothing is asked for again."""
    num_rows = 0
    index = PLAN_SCHEMA.get_field_index("change")
    with path.open("wb") as file, open_writer(file, PLAN_SCHEMA) as writer:
        for table in before.live():
            table = table.filter(pc.is_in(table["recording_id"], names))
            marks = pa.array(["corrected"] * len(table), pa.string())
            writer.write_table(table.set_column(index, PLAN_SCHEMA.field("change"), marks))
            num_rows += len(table)
    return num_rows


def _planned(transcript: Transcript) -> str:
    recording = transcript.recording
    return planned_id(recording.recording_id, recording.num_channels)
