"""From committed shards to the tables that people read, while the run goes on.

The holder of the lease has one publisher. It knows what is committed and what is published; of a
published recording it keeps only the id.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nightscribe.records import Recording, shard_id
from nightscribe.results import (
    Examine,
    NewResults,
    PublishOrder,
    ResultFiles,
    make_results,
    write_results,
)
from nightscribe.storage.failure_retry import remove_failures
from nightscribe.storage.id_set import IdSet
from nightscribe.storage.parts import Receipt, merge, receipts, small_parts
from nightscribe.storage.result_tables import published_failures, published_transcripts
from nightscribe.storage.run import PlanIndex
from nightscribe.storage.store import Store

# Recordings per file of a table, which bounds the memory while it is made.
MAX_RECORDINGS_PER_FILE = 512
# Shards per file of a table, for the same reason; a recording of more is a file of its own.
MAX_SHARDS_PER_FILE = 8192
# The number of small parts, of published recordings alone, that are merged into one.
MERGED_PARTS = 128
RESTORED_AT_ONCE = 65_536
PLACE_SCHEMA = pa.schema([("file", pa.int32()), ("row", pa.int32()), ("estimated_s", pa.float64())])


@dataclass(slots=True)
class _Committed:
    """What is known of a recording that is committed in part and not published."""

    parts: set[str] = field(default_factory=set)
    shards: int = 0  # a bit for each
    num_shards: int | None = None  # known with the last one
    has_failed: bool = False

    def add(self, receipt: Receipt) -> None:
        self.parts.add(receipt.part)
        if receipt.shard_index is None:
            self.has_failed = True
            return
        self.shards |= 1 << receipt.shard_index
        if receipt.is_last:
            self.num_shards = receipt.shard_index + 1

    @property
    def is_complete(self) -> bool:
        return self.has_failed or self.num_committed == self.num_shards

    @property
    def num_committed(self) -> int:
        return self.shards.bit_count()

    def indices(self) -> Iterator[int]:
        return (index for index in range(self.shards.bit_length()) if self.shards >> index & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherShare:
    """What is known of some sources that are not published."""

    committed: dict[str, _Committed]
    published: set[str]  # channels
    names_of_source: dict[str, set[str]]
    duplicates: Mapping[str, list[Recording]]
    asked: Mapping[str, int]
    published_failed_shards: set[tuple[str, int]]


class Publisher:
    """What is committed and published of a run, and what may be published next."""

    def __init__(
        self,
        store: Store,
        check_lease: Callable[[], None],
        duplicates: Mapping[str, list[Recording]],
        examine: Examine,
        asked: Mapping[str, int] | None = None,
        revision: int = 1,
        left: frozenset[str] = frozenset(),
    ) -> None:
        """`asked`: the revision of recordings of which there may be an older transcript.

        `left`: recordings that have left the plan: what is committed of them is not shown.

        `revision`: the settings of the run, by the first generation that has them.
        """
        self._store, self._check_lease, self._revision = store, check_lease, revision
        self._duplicates, self._examine = duplicates, examine
        self._asked = asked or {}
        self._left = left
        self._published = IdSet()
        self._published_failed_shards: set[tuple[str, int]] = set()
        # Of sources that are not published as a whole.
        self._names_of_source: dict[str, set[str]] = defaultdict(set)
        self._committed: dict[str, _Committed] = {}
        self._complete: dict[str, None] = {}
        self._ordered: set[str] = set()
        self._num_waiting_in: Counter[str] = Counter()
        self._published_parts: set[str] = set()
        self._shared_parts: set[str] = set()

    def restore(self, retry: str = "passing") -> None:
        """Load what earlier attempts have done, without the failures that are to be retried."""
        remove_failures(self._store, retry, self._asked)
        for row in published_transcripts(self._store, self._asked):
            self._add_published(row.recording_id, row.num_channels)
        for row in published_failures(self._store, self._asked):
            if row.failed_shard is None:
                self._add_published(row.recording_id, row.num_channels)
            else:
                self._published_failed_shards.add((row.recording_id, row.failed_shard))
        self._published_parts |= set(small_parts(self._store, self._revision))
        committed = receipts(self._store, self._revision)
        while some := list(islice(committed, RESTORED_AT_ONCE)):
            is_done_N = self._published.contains([one.recording_id for one in some])
            self.receive(one for one, is_done in zip(some, is_done_N, strict=True) if not is_done)

    def receive(self, committed: Iterable[Receipt]) -> None:
        """Add what was committed; the same receipt may arrive twice."""
        for receipt in committed:
            name = receipt.recording_id
            if self._left and (name in self._left or name.partition("-")[0] in self._left):
                continue
            known = self._committed.get(name)
            if known is None:
                if name in self._published:
                    continue
                known = self._committed[name] = _Committed()
                self._names_of_source[_source_of(name)].add(name)
            self._num_waiting_in[receipt.part] += receipt.part not in known.parts
            known.add(receipt)
            if known.is_complete and name not in self._ordered:
                self._complete[name] = None

    def is_published(self, recording_id: str) -> bool:
        """Whether readers see the recording, or every channel that it was split into."""
        return recording_id in self._published

    def are_published(self, recording_ids: Sequence[str]) -> NDArray[np.bool_]:
        return self._published.contains(recording_ids)

    def left_of(self, index: PlanIndex) -> pa.Table:
        """The rows of the plan without a result, in order: where they are stored, and how long."""
        left = [
            batch.filter(pa.array(~self.are_published(batch[0].to_pylist())))
            for batch in index.batches
        ]
        places = [batch.select(PLACE_SCHEMA.names) for batch in left]
        return pa.Table.from_batches(places, PLACE_SCHEMA)

    def done_ids(self) -> dict[str, frozenset[str]]:
        """The ids of finished channels and shards, by the id of their unpublished source."""
        return {source: self._done_ids(names) for source, names in self._names_of_source.items()}

    def publish(self) -> NewResults:
        """Add every complete recording to the tables, in a few new files, and merge parts."""
        new = NewResults()
        for order in self.orders():
            new += self.show(make_results(self._store, order, self._examine))
        for parts in self.mergeable():
            merge(self._store, parts)
        return new

    def orders(self) -> Iterator[PublishOrder]:
        """Everything that is complete, each recording once, a file of results at a time."""
        while self._complete:
            yield self._order(self._some_complete())

    def show(self, made: ResultFiles) -> NewResults:
        """Write the files of an order, which only the holder of the lease may."""
        write_results(self._store, self._check_lease, made)
        return self.mark_shown(made)

    def mark_shown(self, made: ResultFiles) -> NewResults:
        """The files of an order were written."""
        for name in made.names:
            self._forget(name)
        for result in made.new.transcripts:
            self._add_published(result.recording_id, result.num_channels)
        for failure in made.new.failures:
            if failure.shard is None:
                recording = failure.recording
                self._add_published(recording.recording_id, recording.num_channels)
        return made.new

    def mergeable(self) -> Iterator[list[str]]:
        """Groups of parts, of published recordings alone; each group is yielded once."""
        parts = sorted(self._published_parts - self._num_waiting_in.keys())
        while len(parts) >= MERGED_PARTS:
            some, parts = parts[:MERGED_PARTS], parts[MERGED_PARTS:]
            self._published_parts -= set(some)
            yield some

    def share(self, is_ours: Callable[[str], bool]) -> "PublisherShare":
        """What another publisher needs to know of the sources that are its own."""
        names = {source: some for source, some in self._names_of_source.items() if is_ours(source)}
        return PublisherShare(
            committed={
                name: self._committed[name]
                for some in names.values()
                for name in some
                if name in self._committed
            },
            published={name for some in names.values() for name in some if self.is_published(name)},
            names_of_source=names,
            duplicates={
                name: copies
                for name, copies in self._duplicates.items()
                if is_ours(_source_of(name))
            },
            asked={
                name: number for name, number in self._asked.items() if is_ours(_source_of(name))
            },
            published_failed_shards={
                one for one in self._published_failed_shards if is_ours(_source_of(one[0]))
            },
        )

    def take_share(self, share: "PublisherShare") -> None:
        """Go on with the sources of a share; parts that others may need are never merged."""
        self._committed, self._duplicates = share.committed, share.duplicates
        self._names_of_source = defaultdict(set, share.names_of_source)
        self._published_failed_shards, self._asked = share.published_failed_shards, share.asked
        self._published.update(share.published)
        self._complete = {name: None for name, one in share.committed.items() if one.is_complete}
        for known in share.committed.values():
            self._num_waiting_in.update(known.parts)
            self._shared_parts |= known.parts

    def _some_complete(self) -> list[str]:
        names: list[str] = []
        num_shards = 0
        for name in islice(self._complete, MAX_RECORDINGS_PER_FILE):
            num_shards += self._committed[name].num_committed
            if names and num_shards > MAX_SHARDS_PER_FILE:
                break
            names.append(name)
        return names

    def _order(self, names: list[str]) -> PublishOrder:
        for name in names:
            del self._complete[name]
        self._ordered.update(names)
        planned = {*names, *map(_source_of, names)}
        failed = self._published_failed_shards
        return PublishOrder(
            names=tuple(names),
            parts=tuple(sorted({part for name in names for part in self._committed[name].parts})),
            duplicates={name: self._duplicates[name] for name in planned & self._duplicates.keys()},
            revisions={name: self._asked[name] for name in planned & self._asked.keys()},
            published_failed_shards=frozenset(failed) if failed else frozenset(),
        )

    def _forget(self, name: str) -> None:
        self._ordered.discard(name)
        for part in self._committed.pop(name, _Committed()).parts:
            self._num_waiting_in[part] -= 1
            if not self._num_waiting_in[part]:
                del self._num_waiting_in[part]
                self._published_parts |= {part} - self._shared_parts

    def _add_published(self, name: str, num_channels: int | None) -> None:
        """Keep only the id; that of the source with its last channel."""
        self._published.add(name)
        source = _source_of(name)
        names = self._names_of_source[source]
        if num_channels is None:
            names.discard(name)
            if not names:
                del self._names_of_source[source]
            return
        names.add(name)
        channels = [f"{source}-{number}" for number in range(num_channels)]
        if all(channel in self._published for channel in channels):
            self._published.add(source)
            del self._names_of_source[source]

    def _done_ids(self, names: set[str]) -> frozenset[str]:
        shards = {
            shard_id(name, index)
            for name in names & self._committed.keys()
            for index in self._committed[name].indices()
        }
        return frozenset(shards | {name for name in names if name in self._published})


def _source_of(recording_id: str) -> str:
    return recording_id.partition("-")[0]
