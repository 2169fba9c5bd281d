"""Records to the rows of Ray's blocks, and back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nightscribe.publishing import Remaining
from nightscribe.records import Failure, Shard, Span
from nightscribe.storage.parts import Receipt
from nightscribe.storage.rows import (
    Outcome,
    outcome_row,
    recording_of,
    recording_row,
    shard_of,
    shard_row,
)
from nightscribe.storage.schema import PARTS_SCHEMA

_RECORDING = PARTS_SCHEMA.field("recording").type

REMAINING_SCHEMA = pa.schema([("recording", _RECORDING), ("done_ids", pa.list_(pa.string()))])
CUT_SCHEMA = pa.schema(
    [
        ("recording", _RECORDING),
        ("shard", PARTS_SCHEMA.field("shard").type),
        ("speech", PARTS_SCHEMA.field("speech").type),
        ("samples", pa.large_binary()),
        ("failure", PARTS_SCHEMA.field("failure").type),
    ]
)
RECEIPT_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("recording_id", pa.string()),
        ("shard_index", pa.int32()),
        ("is_last", pa.bool_()),
        ("transcribed_s", pa.float64()),
        ("num_words", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class CutShard:
    """A shard, its samples, and its spans of speech in seconds of the shard."""

    shard: Shard
    samples_N: NDArray[np.int16] = field(repr=False)
    speech: tuple[Span, ...] = ()


Cut = CutShard | Failure


def remaining_table(remaining: Iterable[Remaining]) -> pa.Table:
    rows = [
        {"recording": recording_row(one.recording), "done_ids": sorted(one.done_ids)}
        for one in remaining
    ]
    return pa.Table.from_pylist(rows, schema=REMAINING_SCHEMA)


def remaining_of(table: pa.Table) -> Iterator[Remaining]:
    for row in table.to_pylist():
        yield Remaining(recording_of(row["recording"]), frozenset(row["done_ids"]))


def cut_table(cut: Cut) -> pa.Table:
    row = _failure_row(cut) if isinstance(cut, Failure) else _shard_row(cut)
    return pa.Table.from_pylist([row], schema=CUT_SCHEMA)


def cuts_of(table: pa.Table) -> Iterator[Cut]:
    for row in table.to_pylist():
        recording = recording_of(row["recording"])
        shard = shard_of(row, recording)
        if row["failure"]:
            yield Failure(recording=recording, shard=shard, **row["failure"])
        else:
            assert shard is not None
            speech = tuple(Span(**span) for span in row["speech"])
            yield CutShard(shard, np.frombuffer(row["samples"], np.int16), speech)


def outcome_table(outcomes: Sequence[Outcome]) -> pa.Table:
    return pa.Table.from_pylist([outcome_row(one) for one in outcomes], schema=PARTS_SCHEMA)


def receipt_table(receipts: Sequence[Receipt], outcomes: Sequence[Outcome]) -> pa.Table:
    """Receipts with the counts for the progress."""
    rows = [
        {
            **{name: getattr(receipt, name) for name in Receipt.__slots__},
            "transcribed_s": transcribed_s(outcome),
            "num_words": 0 if isinstance(outcome, Failure) else len(outcome.words),
        }
        for receipt, outcome in zip(receipts, outcomes, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=RECEIPT_SCHEMA)


def receipt_of(row: dict) -> Receipt:
    return Receipt(**{name: row[name] for name in Receipt.__slots__})


def transcribed_s(outcome: Outcome) -> float:
    """The seconds of the recording that an outcome owns; 0 if it failed."""
    return 0.0 if isinstance(outcome, Failure) else outcome.shard.owned_s


def _shard_row(cut: CutShard) -> dict:
    return {
        "recording": recording_row(cut.shard.recording),
        "shard": shard_row(cut.shard),
        "speech": [span._asdict() for span in cut.speech],
        "samples": cut.samples_N.tobytes(),
        "failure": None,
    }


def _failure_row(failure: Failure) -> dict:
    row = outcome_row(failure)
    columns = {name: row[name] for name in ("recording", "shard", "failure")}
    return columns | {"speech": [], "samples": b""}
