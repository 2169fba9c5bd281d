"""Shards' words to one transcript.

Every moment of a recording is owned by exactly one shard, and a word belongs to the owner of its
middle: where shards overlap both may hear a word, and one of them keeps it.
"""

from collections.abc import Iterable, Iterator
from math import inf

from pipeline.records import Failure, Shard, ShardTranscript, Transcript, Word

TIME_DECIMALS = 3


def is_complete(shards: Iterable[Shard]) -> bool:
    """Whether these are all shards of their recording, in any order, possibly repeated."""
    is_last_of = {shard.index: shard.is_last for shard in shards}
    return is_last_of.get(len(is_last_of) - 1, False)


def stitch(heard: Iterable[ShardTranscript], failed: Iterable[Failure] = ()) -> Transcript:
    """One transcript from all shards of a recording, in any order, at least one of them heard.

    A shard that was heard twice counts once, as it was heard first; a shard that only failed
    leaves a hole, and the transcript says so.
    """
    heard_at = _first_of_each(heard)
    holes_at = {f.shard.index: f.shard for f in failed if f.shard is not None}
    shards_at = holes_at | {index: said.shard for index, said in heard_at.items()}
    if not is_complete(shards_at.values()):
        raise ValueError(f"shards {sorted(shards_at)} are not a whole recording")
    last = shards_at[len(shards_at) - 1]
    some = next(iter(heard_at.values()))
    detail = _what_is_missing(last, [hole for i, hole in holes_at.items() if i not in heard_at])
    return Transcript(
        recording=last.recording,
        duration_s=round(last.owned_end_sample / last.sample_rate_hz, TIME_DECIMALS),
        status="partial" if detail else "ok",
        words=_in_file_time([word for i in sorted(heard_at) for word in _kept(heard_at[i])], last),
        num_shards=len(shards_at),
        model=some.model,
        model_revision=some.model_revision,
        detail=detail,
    )


def _first_of_each(heard: Iterable[ShardTranscript]) -> dict[int, ShardTranscript]:
    first: dict[int, ShardTranscript] = {}
    for said in heard:
        first.setdefault(said.shard.index, said)
    return first


def _what_is_missing(last: Shard, holes: Iterable[Shard]) -> str | None:
    spans = [f"{hole.start_s:.2f}-{hole.end_s:.2f} s failed" for hole in holes]
    return "; ".join(filter(None, [last.damage, *sorted(spans)])) or None


def _kept(said: ShardTranscript) -> Iterator[Word]:
    """The words this shard answers for, in seconds of the recording.

    Nobody stands before the first shard or after the last: they keep what lies over the edge.
    """
    shard = said.shard
    owned_start_s = shard.owned_start_sample / shard.sample_rate_hz if shard.index else -inf
    owned_end_s = inf if shard.is_last else shard.owned_end_sample / shard.sample_rate_hz
    for word in said.words:
        start_s, end_s = shard.start_s + word.start_s, shard.start_s + word.end_s
        if owned_start_s <= (start_s + end_s) / 2 < owned_end_s:
            yield Word(word.text, start_s, end_s, word.confidence)


def _in_file_time(words: list[Word], last: Shard) -> tuple[Word, ...]:
    """The same words inside the recording, none starting before the one it follows."""
    offset_s = last.recording.start_s
    duration_s = last.owned_end_sample / last.sample_rate_hz
    moved, earliest_s = [], 0.0
    for word in words:
        start_s = min(max(word.start_s, earliest_s), duration_s)
        end_s = min(max(word.end_s, start_s), duration_s)
        moved.append(_rounded(word, offset_s + start_s, offset_s + end_s))
        earliest_s = start_s
    return tuple(moved)


def _rounded(word: Word, start_s: float, end_s: float) -> Word:
    start_s, end_s = round(start_s, TIME_DECIMALS), round(end_s, TIME_DECIMALS)
    return Word(word.text, start_s, end_s, word.confidence)
