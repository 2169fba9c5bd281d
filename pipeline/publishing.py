"""From committed shards to the tables that people read, while the run goes on.

The holder of the lease has one publisher. It knows what is committed and what is published; of a
published recording it keeps only the id.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from nightscribe.records import (
    Failure,
    PlannedRecording,
    Recording,
    ShardTranscript,
    Transcript,
    shard_id,
)
from nightscribe.stitching import is_complete, stitch
from nightscribe.storage.failure_retry import remove_failures
from nightscribe.storage.parts import Receipt, merge, outcomes_of, receipts, small_parts
from nightscribe.storage.result_tables import (
    planned_id,
    publish_failures,
    publish_transcripts,
    published_failures,
    published_transcripts,
)
from nightscribe.storage.rows import Outcome
from nightscribe.storage.store import Store
from nightscribe.storage.tables import in_parallel
from nightscribe.storage.voices import publish_voices

# Recordings per file of a table, which bounds the memory while it is written.
MAX_RECORDINGS_PER_FILE = 512
# The number of small parts, of published recordings alone, that are merged into one.
MERGED_PARTS = 128


@dataclass(frozen=True, slots=True)
class Remaining:
    """A recording with something left to do, and which of its channels and shards are done."""

    recording: Recording
    done_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewResults:
    """What one call of `publish` added to the tables."""

    transcripts: tuple[Transcript, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def results(self) -> tuple[Transcript | Failure, ...]:
        return self.transcripts + self.failures


@dataclass(slots=True)
class _Committed:
    """What is known of a recording that is committed in part and not published."""

    parts: set[str] = field(default_factory=set)
    indices: set[int] = field(default_factory=set)
    num_shards: int | None = None  # known with the last one
    has_failed: bool = False

    def add(self, receipt: Receipt) -> None:
        self.parts.add(receipt.part)
        if receipt.shard_index is None:
            self.has_failed = True
            return
        self.indices.add(receipt.shard_index)
        if receipt.is_last:
            self.num_shards = receipt.shard_index + 1

    @property
    def is_complete(self) -> bool:
        return self.has_failed or len(self.indices) == self.num_shards


class Publisher:
    """Stitches a recording once its last shard is committed and adds it to the tables."""

    def __init__(
        self,
        store: Store,
        check_lease: Callable[[], None],
        duplicates: Mapping[str, list[Recording]],
        examine: Callable[[Transcript], Transcript],
        asked: Mapping[str, int] | None = None,
    ) -> None:
        """`asked`: the revision of recordings of which there may be an older transcript."""
        self._store, self._check_lease = store, check_lease
        self._duplicates, self._examine = duplicates, examine
        self._asked = asked or {}
        self._published: set[str] = set()
        self._published_failed_shards: set[tuple[str, int]] = set()
        self._num_channels: dict[str, int] = {}  # of files that were split, by source
        self._committed: dict[str, _Committed] = {}
        self._complete: dict[str, None] = {}
        self._names_of_source: dict[str, set[str]] = defaultdict(set)
        self._num_waiting_in: Counter[str] = Counter()
        self._published_parts: set[str] = set()

    def restore(self, retry: str = "passing") -> None:
        """Load what earlier attempts have done, without the failures that are to be retried."""
        remove_failures(self._store, retry)
        for row in published_transcripts(self._store, self._asked):
            self._add_published(row.recording_id, row.num_channels)
        for row in published_failures(self._store, self._asked):
            if row.failed_shard is None:
                self._add_published(row.recording_id, row.num_channels)
            else:
                self._published_failed_shards.add((row.recording_id, row.failed_shard))
        self._published_parts |= set(small_parts(self._store))
        self.receive(receipts(self._store))

    def receive(self, committed: Iterable[Receipt]) -> None:
        """Add what was committed; the same receipt may arrive twice."""
        for receipt in committed:
            name = receipt.recording_id
            if name in self._published:
                continue
            known = self._committed.setdefault(name, _Committed())
            self._names_of_source[_source_of(name)].add(name)
            self._num_waiting_in[receipt.part] += receipt.part not in known.parts
            known.add(receipt)
            if known.is_complete:
                self._complete[name] = None

    def remaining(self, plan: Iterable[PlannedRecording]) -> Iterator[Remaining]:
        """What of the plan is still to be done, in its order; duplicates follow their original."""
        for planned in plan:
            recording = planned.recording
            if planned.duplicate_of is None and not self.is_published(recording.recording_id):
                yield Remaining(recording, self._done_ids(recording))

    def is_published(self, recording_id: str) -> bool:
        """Whether readers see the recording, or every channel that it was split into."""
        if recording_id in self._published:
            return True
        source = _source_of(recording_id)
        channels = range(self._num_channels.get(source, 0))
        return bool(channels) and all(f"{source}-{n}" in self._published for n in channels)

    def publish(self) -> NewResults:
        """Add every complete recording to the tables, in a few new files."""
        transcripts: list[Transcript] = []
        failures: list[Failure] = []
        while some := list(islice(self._complete, MAX_RECORDINGS_PER_FILE)):
            new = self._publish(some)
            transcripts += new.transcripts
            failures += new.failures
        self._merge_published_parts()
        return NewResults(tuple(transcripts), tuple(failures))

    def _publish(self, names: list[str]) -> NewResults:
        """Failures first: the failed shards of a published transcript are always in the table."""
        new = self._results(names)
        self._check_lease()
        if new.failures:
            publish_failures(self._store, new.failures)
        if new.transcripts:
            publish_voices(self._store, new.transcripts)
            publish_transcripts(self._store, new.transcripts)
        for result in new.results:
            self._mark_published(result.recording)
        return new

    def _results(self, names: list[str]) -> NewResults:
        outcomes = self._outcomes(names)
        results = [
            copy for name in names for copy in self._with_duplicates(self._result(outcomes[name]))
        ]
        return NewResults(
            tuple(transcript for result in results for transcript in result.transcripts),
            tuple(
                failure
                for result in results
                for failure in result.failures
                if self._is_new(failure)
            ),
        )

    def _result(self, outcomes: list[Outcome]) -> NewResults:
        """With the revision that the plan asks for, which may be later than that of the shards."""
        result = _result(outcomes, self._examine)
        recording = result.results[0].recording
        name = planned_id(recording.recording_id, recording.num_channels)
        recording = replace(recording, revision=self._asked.get(name, recording.revision))
        return NewResults(
            tuple(replace(one, recording=recording) for one in result.transcripts),
            tuple(replace(one, recording=recording) for one in result.failures),
        )

    def _outcomes(self, names: list[str]) -> dict[str, list[Outcome]]:
        """Everything committed of these recordings, in the order of the parts' names."""
        parts = sorted({part for name in names for part in self._committed[name].parts})
        found: dict[str, list[Outcome]] = defaultdict(list)
        for outcomes in in_parallel(lambda part: outcomes_of(self._store, part, names), parts):
            for outcome in outcomes:
                found[outcome.recording.recording_id].append(outcome)
        return found

    def _with_duplicates(self, result: NewResults) -> Iterator[NewResults]:
        yield result
        recording = result.results[0].recording
        is_split = recording.num_channels is not None
        planned_name = recording.source_id if is_split else recording.recording_id
        for other in self._duplicates.get(planned_name, []):
            channel = recording.channel if is_split else other.channel
            copy = replace(other, channel=channel, num_channels=recording.num_channels)
            yield _copied(result, copy, recording.recording_id)

    def _is_new(self, failure: Failure) -> bool:
        """False if an earlier attempt published the failed shard and died before its transcript."""
        if failure.shard is None:
            return True
        shard = (failure.recording.recording_id, failure.shard.index)
        return shard not in self._published_failed_shards

    def _mark_published(self, recording: Recording) -> None:
        """Keep only the id of the recording."""
        self._add_published(recording.recording_id, recording.num_channels)
        self._complete.pop(recording.recording_id, None)
        known = self._committed.pop(recording.recording_id, _Committed())
        for part in known.parts:
            self._num_waiting_in[part] -= 1
            if not self._num_waiting_in[part]:
                del self._num_waiting_in[part]
                self._published_parts.add(part)
        if recording.num_channels is None:
            self._forget_name(recording)

    def _forget_name(self, recording: Recording) -> None:
        names = self._names_of_source[recording.source_id]
        names.discard(recording.recording_id)
        if not names:
            del self._names_of_source[recording.source_id]

    def _add_published(self, name: str, num_channels: int | None) -> None:
        self._published.add(name)
        if num_channels is not None:
            self._num_channels[_source_of(name)] = num_channels
            self._names_of_source[_source_of(name)].add(name)

    def _done_ids(self, recording: Recording) -> frozenset[str]:
        names = self._names_of_source.get(recording.source_id, set())
        shards = {
            shard_id(name, index)
            for name in names & self._committed.keys()
            for index in self._committed[name].indices
        }
        return frozenset(shards | (names & self._published))

    def _merge_published_parts(self) -> None:
        mergeable = sorted(self._published_parts - self._num_waiting_in.keys())
        while len(mergeable) >= MERGED_PARTS:
            some, mergeable = mergeable[:MERGED_PARTS], mergeable[MERGED_PARTS:]
            merge(self._store, some)
            self._published_parts -= set(some)


def _result(outcomes: list[Outcome], examine: Callable[[Transcript], Transcript]) -> NewResults:
    shards = [outcome for outcome in outcomes if isinstance(outcome, ShardTranscript)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if shards and is_complete(outcome.shard for outcome in outcomes if outcome.shard is not None):
        return NewResults((examine(stitch(shards, failed)),), tuple(_holes(shards, failed)))
    return NewResults(failures=(_whole_failure(failed),))


def _holes(shards: list[ShardTranscript], failed: list[Failure]) -> Iterator[Failure]:
    """The failures of shards without a transcript, one for each, in order."""
    seen = {transcript.shard.index for transcript in shards}
    for failure in sorted(failed, key=_shard_index):
        if failure.shard is not None and failure.shard.index not in seen:
            seen.add(failure.shard.index)
            yield failure


def _whole_failure(failed: list[Failure]) -> Failure:
    """One failure for a recording without a transcript."""
    first = min(failed, key=_shard_index)
    if first.shard is None:
        return first
    num_shards = len({_shard_index(failure) for failure in failed})
    detail = first.detail if num_shards == 1 else f"all {num_shards} shards failed: {first.detail}"
    return replace(first, shard=None, detail=detail)


def _shard_index(failure: Failure) -> int:
    """Failures of whole recordings come before those of shards."""
    return -1 if failure.shard is None else failure.shard.index


def _copied(result: NewResults, recording: Recording, original: str) -> NewResults:
    return NewResults(
        tuple(replace(t, recording=recording, duplicate_of=original) for t in result.transcripts),
        tuple(replace(f, recording=recording, duplicate_of=original) for f in result.failures),
    )


def _source_of(recording_id: str) -> str:
    return recording_id.partition("-")[0]
