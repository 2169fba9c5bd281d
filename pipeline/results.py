"""From committed parts to new files of the tables: reads, stitches, examines, and writes nothing.

Without state, so that any worker may do it. Only the holder of the lease writes what comes of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nightscribe.records import Failure, Recording, ShardTranscript, Transcript
from nightscribe.stitching import is_complete, stitch
from nightscribe.storage.parts import outcomes_of
from nightscribe.storage.result_tables import failures_file, planned_id, transcripts_file
from nightscribe.storage.rows import Outcome
from nightscribe.storage.store import Store
from nightscribe.storage.tables import File, in_parallel
from nightscribe.storage.voices import voices_file

Examine = Callable[[Transcript], Transcript]


@dataclass(frozen=True, slots=True)
class PublishedTranscript:
    """What the driver learns of a transcript that was added to the table."""

    recording_id: str
    num_channels: int | None
    status: str


@dataclass(frozen=True, slots=True)
class NewResults:
    """What was added to the tables."""

    transcripts: tuple[PublishedTranscript, ...] = ()
    failures: tuple[Failure, ...] = ()

    def __add__(self, other: "NewResults") -> "NewResults":
        return NewResults(self.transcripts + other.transcripts, self.failures + other.failures)

    def __bool__(self) -> bool:
        return bool(self.transcripts or self.failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOrder:
    """Recordings that are committed as a whole, and what it takes to publish them."""

    names: tuple[str, ...]
    parts: tuple[str, ...]  # with everything committed of them, in the order of their names
    duplicates: Mapping[str, Sequence[Recording]]  # by the planned name of the original
    # What the plan asks for, where that may be later than the revision of the shards.
    revisions: Mapping[str, int] = field(default_factory=dict)
    # Published by an earlier attempt that died before the transcript: as (name, shard).
    published_failed_shards: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFiles:
    """New files of the tables, in the order in which they must be written."""

    names: tuple[str, ...]
    files: tuple[File, ...]
    new: NewResults


def make_results(store: Store, order: PublishOrder, examine: Examine) -> ResultFiles:
    """Stitch and examine the recordings of an order; nothing is written.

    Failures and voices come first: what belongs to a published transcript is always there.
    """
    outcomes = _outcomes(store, order)
    results = [
        copy
        for name in order.names
        for copy in _with_duplicates(_asked_result(outcomes[name], order, examine), order)
    ]
    transcripts = [transcript for result in results for transcript in result.transcripts]
    failures = [
        failure for result in results for failure in result.failures if _is_new(failure, order)
    ]
    files = [failures_file(failures)] if failures else []
    if (voices := voices_file(transcripts)) is not None:
        files.append(voices)
    files += [transcripts_file(transcripts)] if transcripts else []
    return ResultFiles(
        names=order.names, files=tuple(files), new=_new_results(transcripts, failures)
    )


def write_results(store: Store, check_lease: Callable[[], None], made: ResultFiles) -> None:
    """Show readers the results of an order; only the holder of the lease may."""
    check_lease()
    for file in made.files:
        store.write(*file)


def _new_results(transcripts: Iterable[Transcript], failures: Iterable[Failure]) -> NewResults:
    published = [
        PublishedTranscript(one.recording.recording_id, one.recording.num_channels, one.status)
        for one in transcripts
    ]
    return NewResults(tuple(published), tuple(failures))


def _outcomes(store: Store, order: PublishOrder) -> dict[str, list[Outcome]]:
    """Everything committed of these recordings, in the order of the parts' names."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    read = in_parallel(lambda part: outcomes_of(store, part, order.names), order.parts)
    for outcomes in read:
        for outcome in outcomes:
            found[outcome.recording.recording_id].append(outcome)
    return found


@dataclass(frozen=True, slots=True)
class _Result:
    """Rows of the tables about one recording."""

    transcripts: tuple[Transcript, ...] = ()
    failures: tuple[Failure, ...] = ()


def _asked_result(outcomes: list[Outcome], order: PublishOrder, examine: Examine) -> _Result:
    """With the revision that the plan asks for, which may be later than that of the shards."""
    result = _result(outcomes, examine)
    recording = (result.transcripts + result.failures)[0].recording
    name = planned_id(recording.recording_id, recording.num_channels)
    recording = replace(recording, revision=order.revisions.get(name, recording.revision))
    return _Result(
        tuple(replace(one, recording=recording) for one in result.transcripts),
        tuple(replace(one, recording=recording) for one in result.failures),
    )


def _with_duplicates(result: _Result, order: PublishOrder) -> Iterator[_Result]:
    yield result
    recording = (result.transcripts + result.failures)[0].recording
    is_split = recording.num_channels is not None
    planned_name = planned_id(recording.recording_id, recording.num_channels)
    for other in order.duplicates.get(planned_name, ()):
        channel = recording.channel if is_split else other.channel
        copy = replace(other, channel=channel, num_channels=recording.num_channels)
        yield _copied(result, copy, recording.recording_id)


def _is_new(failure: Failure, order: PublishOrder) -> bool:
    """False if an earlier attempt published the failed shard and died before its transcript."""
    if failure.shard is None:
        return True
    shard = (failure.recording.recording_id, failure.shard.index)
    return shard not in order.published_failed_shards


def _result(outcomes: list[Outcome], examine: Examine) -> _Result:
    shards = [outcome for outcome in outcomes if isinstance(outcome, ShardTranscript)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if shards and is_complete(outcome.shard for outcome in outcomes if outcome.shard is not None):
        return _Result((examine(stitch(shards, failed)),), tuple(_holes(shards, failed)))
    return _Result(failures=(_whole_failure(failed),))


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


def _copied(result: _Result, recording: Recording, original: str) -> _Result:
    return _Result(
        tuple(replace(t, recording=recording, duplicate_of=original) for t in result.transcripts),
        tuple(replace(f, recording=recording, duplicate_of=original) for f in result.failures),
    )
