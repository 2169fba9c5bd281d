"""Records to the rows of Ray's blocks, and back.

A packet is one row: the shards of some minutes of sound, or failures. Ray may cut blocks between
rows, so a packet travels as it was made; its samples lie in one buffer and are not copied again.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nightscribe.records import Failure
from nightscribe.runs.shards import Cut, CutShard, num_words, transcribed_s
from nightscribe.storage.parts import Receipt
from nightscribe.storage.rows import Outcome

PACKET_SCHEMA = pa.schema([("cuts", pa.binary()), ("samples", pa.large_binary())])
RECEIPTS_SCHEMA = pa.schema(
    [
        ("part", pa.list_(pa.string())),
        ("recording_id", pa.list_(pa.string())),
        ("shard_index", pa.list_(pa.int32())),
        ("is_last", pa.list_(pa.bool_())),
        ("transcribed_s", pa.float64()),
        ("num_words", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSize:
    """A packet is full with this many shards, or with fewer of this many bytes.

    The first packet of a task may hold fewer, and each next one twice as many. When a packet is
    full depends on nothing but the shards: a task that Ray repeats must make the same packets.
    """

    num_shards: int
    num_bytes: int
    num_first: int

    def limit(self, packet: int) -> int:
        """The most shards in the packet of this number."""
        return min(self.num_shards, self.num_first << min(packet, 16))


def packets(cuts: Iterable[Cut], size: PacketSize) -> Iterator[list[Cut]]:
    """The cuts in order, some in each packet."""
    packet: list[Cut] = []
    num_bytes = number = 0
    for cut in cuts:
        packet.append(cut)
        num_bytes += cut.samples_N.nbytes if isinstance(cut, CutShard) else 0
        if len(packet) >= size.limit(number) or num_bytes >= size.num_bytes:
            yield packet
            packet, num_bytes, number = [], 0, number + 1
    if packet:
        yield packet


def packet_table(cuts: Sequence[Cut]) -> pa.Table:
    """One row; equal recordings of its shards are stored once."""
    shards = [cut for cut in cuts if isinstance(cut, CutShard)]
    described = [
        cut if isinstance(cut, Failure) else (cut.shard, cut.speech, len(cut.samples_N))
        for cut in cuts
    ]
    samples_N = np.concatenate([cut.samples_N for cut in shards] or [np.zeros(0, np.int16)])
    ends = pa.py_buffer(np.array([0, samples_N.nbytes], np.int64))
    samples = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 1, [None, ends, pa.py_buffer(samples_N)]
    )
    return pa.table([pa.array([pickle.dumps(described)], pa.binary()), samples], PACKET_SCHEMA)


def cuts_of(table: pa.Table) -> Iterator[Cut]:
    """The cuts of packets; their samples are views of the memory that the table holds."""
    for described, samples_N in zip(table["cuts"], _samples(table["samples"]), strict=True):
        start = 0
        for cut in pickle.loads(described.as_py()):
            if isinstance(cut, Failure):
                yield cut
                continue
            shard, speech, num_samples = cut
            yield CutShard(shard, samples_N[start : start + num_samples], speech)
            start += num_samples


def _samples(column: pa.ChunkedArray) -> Iterator[NDArray[np.int16]]:
    """Of each row; a scalar of Arrow would be a copy of tens of megabytes."""
    for chunk in column.chunks:
        _, ends, data = chunk.buffers()
        ends_R = np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        for start, end in pairwise(ends_R.tolist()):
            yield np.frombuffer(data.slice(start, end - start), np.int16)


def receipts_table(receipts: Sequence[Receipt], outcomes: Sequence[Outcome]) -> pa.Table:
    """One row: the receipts of a packet, with the counts for the progress."""
    names = ("part", "recording_id", "shard_index", "is_last")
    row = {
        **{name: [getattr(receipt, name) for receipt in receipts] for name in names},
        "transcribed_s": sum(map(transcribed_s, outcomes)),
        "num_words": sum(map(num_words, outcomes)),
    }
    return pa.Table.from_pylist([row], schema=RECEIPTS_SCHEMA)


def receipts_of(row: dict) -> Iterator[Receipt]:
    columns = (row[name] for name in ("part", "recording_id", "shard_index", "is_last"))
    for part, recording_id, shard_index, is_last in zip(*columns, strict=True):
        yield Receipt(
            part=part, recording_id=recording_id, shard_index=shard_index, is_last=is_last
        )
