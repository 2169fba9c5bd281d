"""Joins the words of shards into one transcript.

Every moment of a recording is owned by exactly one shard, and a word belongs to the owner of its
middle: where shards overlap, both may have a word, and one of them keeps it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf

from nightscribe.records import Failure, Shard, ShardTranscript, Span, Transcript, Voice, Word

TIME_DECIMALS = 3


def is_complete(shards: Iterable[Shard]) -> bool:
    """Whether these are all shards of their recording, in any order, possibly repeated."""
    is_last_of = {shard.index: shard.is_last for shard in shards}
    return is_last_of.get(len(is_last_of) - 1, False)


def stitch(transcripts: Iterable[ShardTranscript], failed: Iterable[Failure] = ()) -> Transcript:
    """One transcript from all shards of a recording, in any order, at least one of them good.

    Of a shard that was transcribed twice the first transcript counts. A shard that only failed
    leaves a hole, and the reasons of the transcript name it.
    """
    transcript_at = _first_of_each(transcripts)
    holes_at = {f.shard.index: f.shard for f in failed if f.shard is not None}
    shards_at = holes_at | {index: one.shard for index, one in transcript_at.items()}
    if not is_complete(shards_at.values()):
        raise ValueError(f"shards {sorted(shards_at)} are not a whole recording")
    last = shards_at[len(shards_at) - 1]
    shards = [transcript_at[index] for index in sorted(transcript_at)]
    holes = [hole for index, hole in holes_at.items() if index not in transcript_at]
    reasons = _what_is_missing(last, holes)
    words = _in_file_time([word for shard in shards for word in owned_words(shard)], last)
    return Transcript(
        recording=last.recording,
        duration_s=_rounded(last.owned_end_sample / last.sample_rate_hz),
        status="partial" if reasons else "ok" if words else "empty",
        words=words,
        num_shards=len(shards_at),
        model=shards[0].model,
        model_revision=shards[0].model_revision,
        reasons=reasons,
        speech=tuple(span for shard in shards for span in _owned_speech(shard)),
        turn_ends_s=tuple(end_s for shard in shards for end_s in _owned_turn_ends(shard)),
        num_redecoded=sum(shard.num_redecoded for shard in shards),
        voices=tuple(voice for shard in shards for voice in _owned_voices(shard)),
    )


def _first_of_each(transcripts: Iterable[ShardTranscript]) -> dict[int, ShardTranscript]:
    first: dict[int, ShardTranscript] = {}
    for transcript in transcripts:
        first.setdefault(transcript.shard.index, transcript)
    return first


def _what_is_missing(last: Shard, holes: Iterable[Shard]) -> tuple[str, ...]:
    in_order = sorted(holes, key=lambda hole: hole.index)
    offset_s = last.recording.start_s
    spans = [
        f"{offset_s + hole.start_s:.2f}-{offset_s + hole.end_s:.2f} s failed" for hole in in_order
    ]
    return (*([last.damage] if last.damage else []), *spans)


def owned_words(transcript: ShardTranscript) -> Iterator[Word]:
    """The words that the shard owns, in seconds of the recording."""
    start_s, (first_s, end_s) = transcript.shard.start_s, _owned(transcript.shard)
    for word in transcript.words:
        moved = word.at(start_s + word.start_s, start_s + word.end_s)
        if first_s <= (moved.start_s + moved.end_s) / 2 < end_s:
            yield moved


def _owned_speech(transcript: ShardTranscript) -> Iterator[Span]:
    """The part of each span of speech that the shard owns, in seconds of the file."""
    return _owned_spans(transcript.speech, transcript.shard)


def _owned_voices(transcript: ShardTranscript) -> Iterator[Voice]:
    for voice in transcript.voices:
        spans = tuple(_owned_spans(voice.spans, transcript.shard))
        if spans:
            yield replace(voice, spans=spans)


def _owned_spans(spans: Iterable[Span], shard: Shard) -> Iterator[Span]:
    owned_start_s, owned_end_s = _owned(shard)
    for start_s, end_s in spans:
        start_s = max(shard.start_s + start_s, owned_start_s, 0.0)
        end_s = min(shard.start_s + end_s, owned_end_s)
        if start_s < end_s:
            offset_s = shard.recording.start_s
            yield Span(_rounded(offset_s + start_s), _rounded(offset_s + end_s))


def _owned_turn_ends(transcript: ShardTranscript) -> Iterator[float]:
    owned_start_s, owned_end_s = _owned(transcript.shard)
    for end_s in transcript.turn_ends_s:
        if owned_start_s <= transcript.shard.start_s + end_s < owned_end_s:
            yield _rounded(transcript.shard.recording.start_s + transcript.shard.start_s + end_s)


def _owned(shard: Shard) -> Span:
    """The first shard owns everything before it, the last one everything after it."""
    start_s = shard.owned_start_sample / shard.sample_rate_hz if shard.index else -inf
    end_s = inf if shard.is_last else shard.owned_end_sample / shard.sample_rate_hz
    return Span(start_s, end_s)


def _in_file_time(words: list[Word], last: Shard) -> tuple[Word, ...]:
    """The same words inside the recording, none starting before the one it follows."""
    offset_s = last.recording.start_s
    duration_s = last.owned_end_sample / last.sample_rate_hz
    moved, earliest_s = [], 0.0
    for word in words:
        start_s = min(max(word.start_s, earliest_s), duration_s)
        end_s = min(max(word.end_s, start_s), duration_s)
        moved.append(word.at(_rounded(offset_s + start_s), _rounded(offset_s + end_s)))
        earliest_s = start_s
    return tuple(moved)


def _rounded(time_s: float) -> float:
    return round(time_s, TIME_DECIMALS)
