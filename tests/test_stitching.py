"""A recording is cut at any places, with any overlap, and its words come back as they were."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.records import Failure, Recording, Shard, ShardTranscript, Span, Voice, Word
from nightscribe.stitching import is_complete, stitch

RATE_HZ = 100
RECORDING = Recording(uri="a.wav", size_bytes=1, version="1")


def shards_of(num_samples, cuts, overlap_samples=0, recording=RECORDING):
    edges = [0, *sorted(cuts), num_samples]
    return [
        Shard(
            recording=recording,
            index=index,
            sample_rate_hz=RATE_HZ,
            start_sample=max(0, start - overlap_samples),
            end_sample=min(num_samples, end + overlap_samples),
            owned_start_sample=start,
            owned_end_sample=end,
            is_last=end == num_samples,
        )
        for index, (start, end) in enumerate(itertools.pairwise(edges))
    ]


def hear(shard, words):
    """A perfect listener: every word whose whole span the shard hears."""
    heard = [
        Word(w.text, w.start_s - shard.start_s, w.end_s - shard.start_s, w.confidence)
        for w in words
        if shard.start_s <= w.start_s and w.end_s <= shard.end_s
    ]
    return ShardTranscript(shard=shard, words=tuple(heard), model="m", model_revision="r")


@st.composite
def spoken(draw):
    """Words of up to 0.6 s in a recording of 40 s, on the grid of samples."""
    starts = sorted(draw(st.sets(st.integers(0, 3900), max_size=40)))
    lengths = draw(st.lists(st.integers(1, 60), min_size=len(starts), max_size=len(starts)))
    return [
        Word(f"w{n}", start / RATE_HZ, (start + length) / RATE_HZ, 0.5)
        for n, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


@given(words=spoken(), cuts=st.sets(st.integers(1, 3999), max_size=8), order=st.randoms())
def test_no_word_is_lost_or_doubled_whatever_the_cuts(words, cuts, order):
    shards = shards_of(4000, cuts, overlap_samples=60)
    heard = [hear(shard, words) for shard in shards]
    order.shuffle(heard)
    transcript = stitch(heard)
    by_middle = sorted(words, key=lambda w: w.start_s + w.end_s)
    assert sorted(w.text for w in transcript.words) == sorted(w.text for w in by_middle)
    assert transcript.duration_s == 40.0
    assert transcript.status == ("ok" if words else "empty")


@given(words=spoken(), cuts=st.sets(st.integers(1, 3999), max_size=8))
def test_words_follow_each_other_inside_the_recording(words, cuts):
    transcript = stitch([hear(shard, words) for shard in shards_of(4000, cuts, 60)])
    starts = [word.start_s for word in transcript.words]
    assert starts == sorted(starts)
    assert all(0 <= w.start_s <= w.end_s <= transcript.duration_s for w in transcript.words)


@given(cuts=st.sets(st.integers(1, 3999), max_size=8), words=spoken())
def test_cutting_in_silence_changes_nothing(cuts, words):
    def is_silent(cut):
        return not any(w.start_s < cut / RATE_HZ < w.end_s for w in words)

    whole = stitch([hear(shard, words) for shard in shards_of(4000, ())])
    cut = stitch([hear(s, words) for s in shards_of(4000, set(filter(is_silent, cuts)))])
    assert cut.words == whole.words


@given(
    times=st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=20),
    cut=st.integers(1, 3999),
)
def test_no_time_leaves_the_recording_however_wild_the_listener(times, cut):
    words = tuple(Word("w", min(t), max(t), 1.0) for t in sorted(times))
    heard = [
        ShardTranscript(shard=shard, words=words, model="m", model_revision="r")
        for shard in shards_of(4000, {cut})
    ]
    starts = [word.start_s for word in stitch(heard).words]
    assert starts == sorted(starts)
    assert all(word.end_s <= 40.0 for word in stitch(heard).words)


def test_the_edges_of_the_recording_keep_words_beyond_them():
    first, last = shards_of(4000, {2000})
    late = ShardTranscript(
        shard=last, words=(Word("late", 20.5, 21.0, 1.0),), model="m", model_revision="r"
    )
    assert stitch([hear(first, []), late]).words == (Word("late", 40.0, 40.0, 1.0),)


def test_times_are_those_of_the_file_the_span_was_taken_from():
    span = Recording(uri="a.wav", size_bytes=1, version="1", start_s=100.0, end_s=140.0)
    (shard,) = shards_of(4000, (), recording=span)
    transcript = stitch([hear(shard, [Word("here", 1.0, 1.5, 1.0)])])
    assert transcript.words == (Word("here", 101.0, 101.5, 1.0),)
    assert transcript.duration_s == 40.0


def test_speech_and_turns_are_those_of_the_file_the_span_was_taken_from():
    span = Recording(uri="a.wav", size_bytes=1, version="1", start_s=100.0, end_s=140.0)
    shards = shards_of(4000, {2000}, recording=span)
    second = ShardTranscript(
        shard=shards[1],
        words=(),
        model="m",
        model_revision="r",
        speech=(Span(1.0, 2.5),),
        turn_ends_s=(2.5,),
    )
    transcript = stitch([hear(shards[0], []), second])
    assert transcript.speech == (Span(121.0, 122.5),)
    assert transcript.turn_ends_s == (122.5,)


def test_what_lies_on_a_cut_belongs_to_the_shard_behind_it_once():
    shards = shards_of(4000, {2000}, overlap_samples=100)
    words = [Word("between", 19.5, 20.5, 1.0)]
    heard = [
        replace(
            hear(shard, words),
            speech=(Span(19.0 - shard.start_s, 20.0 - shard.start_s),),
            turn_ends_s=(20.0 - shard.start_s,),
        )
        for shard in shards
    ]
    transcript = stitch(heard)
    assert transcript.words == tuple(words)
    assert transcript.speech == (Span(19.0, 20.0),)
    assert transcript.turn_ends_s == (20.0,)


def test_times_are_whole_milliseconds():
    (shard,) = shards_of(4000, ())
    (word,) = stitch([hear(shard, [Word("here", 1.00049, 2.00051, 1.0)])]).words
    assert (word.start_s, word.end_s) == (1.0, 2.001)


def test_a_shard_transcribed_twice_counts_once_with_its_first_transcript():
    (shard,) = shards_of(4000, ())
    first, second = (hear(shard, [Word(text, 1.0, 2.0, 1.0)]) for text in ("one", "two"))
    assert stitch([first, second]).text == "one"


def test_a_shard_that_failed_leaves_a_hole_and_says_so():
    shards = shards_of(4000, {1000, 2000})
    words = [Word(f"w{n}", n, n + 0.5, 1.0) for n in range(40)]
    gone = Failure(
        recording=RECORDING, stage="transcribe", reason="killed", detail="", shard=shards[1]
    )
    transcript = stitch([hear(shards[2], words), hear(shards[0], words)], [gone])
    assert transcript.status == "partial"
    assert transcript.reasons == ("10.00-20.00 s failed",)
    assert transcript.text.split() == [f"w{n}" for n in [*range(10), *range(20, 40)]]
    assert transcript.num_shards == 3


def test_a_hole_lies_where_it_is_in_the_file_the_span_was_taken_from():
    span = Recording(uri="a.wav", size_bytes=1, version="1", start_s=100.0, end_s=140.0)
    first, last = shards_of(4000, {1000}, recording=span)
    gone = Failure(recording=span, stage="transcribe", reason="killed", detail="", shard=first)
    assert stitch([hear(last, [])], [gone]).reasons == ("100.00-110.00 s failed",)


def test_a_shard_that_failed_once_and_was_transcribed_later_leaves_no_hole():
    (shard,) = shards_of(4000, ())
    gone = Failure(recording=RECORDING, stage="transcribe", reason="killed", detail="", shard=shard)
    assert stitch([hear(shard, [])], [gone]).status == "empty"


@given(cuts=st.sets(st.integers(1, 3999), max_size=6), data=st.data())
def test_a_recording_is_complete_with_all_its_shards_and_not_before(cuts, data):
    shards = shards_of(4000, cuts)
    some = data.draw(st.lists(st.sampled_from(shards)))
    assert is_complete(some) == ({s.index for s in some} == {s.index for s in shards})


def test_a_recording_is_never_stitched_from_some_of_its_shards():
    shards = shards_of(4000, {1000, 2000})
    with pytest.raises(ValueError, match=r"\[0, 2\] are not a whole recording"):
        stitch([hear(shards[0], []), hear(shards[2], [])])


@given(cuts=st.sets(st.integers(1, 3999), max_size=6))
def test_speech_and_turn_ends_in_an_overlap_count_once(cuts):
    heard = [
        ShardTranscript(
            shard=shard,
            words=(),
            model="m",
            model_revision="r",
            speech=((0.0, shard.end_s - shard.start_s),),
            turn_ends_s=tuple(
                n - shard.start_s for n in range(40) if shard.start_s <= n < shard.end_s
            ),
        )
        for shard in shards_of(4000, cuts, overlap_samples=60)
    ]
    transcript = stitch(heard)
    assert sum(end_s - start_s for start_s, end_s in transcript.speech) == pytest.approx(40)
    assert transcript.turn_ends_s == tuple(map(float, range(40)))


def test_voices_are_kept_where_their_shard_owns_them():
    shards = shards_of(3000, [1000], overlap_samples=200)
    hears = [
        Voice((Span(9.0, 11.5), Span(11.6, 11.9)), 2.0, b"first"),
        Voice((Span(0.5, 3.0),), 2.0, b"second"),
    ]
    transcripts = [
        ShardTranscript(shard=shard, words=(), model="m", model_revision="r", voices=(voice,))
        for shard, voice in zip(shards, hears, strict=True)
    ]
    spans = {voice.vector: voice.spans for voice in stitch(transcripts).voices}
    assert spans == {b"first": (Span(9.0, 10.0),), b"second": (Span(10.0, 11.0),)}
