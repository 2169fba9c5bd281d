import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscribe.jobs.file import read_audio
from nightscribe.records import Span, SpeakerSpan, Word
from nightscribe.speakers.clustering import MAX_ROWS, ClusteringLimits, cluster
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.diarization import (
    add_speakers,
    diarize,
    overlaps,
    speakers_of,
    vector_of,
    with_speakers,
)
from nightscribe.speakers.voices import voices_of
from nightscribe.speakers.weights import load_networks
from nightscribe.stitching import stitch
from tests.speakers.made_up import centres, conversation, voice
from tests.storage.records import heard_all, recording

ON = SpeakersConfig(is_on=True)
SAMPLES = Path("samples")


def heard(voices, config=ON):
    """The speaker at the middle of each voice."""
    spans = diarize(voices, config).spans
    words = [Word("a", v.spans[0].start_s + 0.5, v.spans[0].end_s - 0.5, 1.0) for v in voices]
    return [word.speaker for word in with_speakers(words, spans)]


def expected(order):
    first = list(dict.fromkeys(order))
    return [f"speaker-{first.index(speaker) + 1}" for speaker in order]


@pytest.mark.parametrize("num_speakers", [1, 2, 3, 6])
@pytest.mark.parametrize("num_voices", [9, 60])
def test_speakers_are_found_and_named_by_when_they_first_speak(num_speakers, num_voices):
    order = [*range(num_speakers)] + [
        int(n) for n in np.random.default_rng(3).integers(0, num_speakers, num_voices)
    ]
    assert heard(conversation(order, num_speakers)) == expected(order)


def test_the_order_in_which_voices_arrive_changes_nothing():
    voices = conversation([0, 1, 1, 0, 2, 0] * 8, 3)
    assert diarize(voices[::-1], ON).spans == diarize(voices, ON).spans


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=3))
def test_shards_in_any_order_and_some_of_them_twice_give_the_same_speakers(order, again):
    """As a run that was killed and went on commits them."""
    shards = heard_all(recording("talk"), 6)
    said = conversation([0, 1] * 12, 2)
    voices_of_shard = [
        tuple(
            replace(one, spans=said[n % 4].spans) for n, one in enumerate(said[first : first + 4])
        )
        for first in range(0, 24, 4)
    ]
    shards = [replace(one, voices=own) for one, own in zip(shards, voices_of_shard, strict=True)]
    whole = add_speakers(stitch(shards), ON)
    assert len(whole.speakers) == 2
    arrived = [shards[place] for place in [*order, *again]]
    assert add_speakers(stitch(arrived), ON) == whole


@pytest.mark.slow
def test_ten_hours_of_voices_take_the_memory_of_five():
    """Beside the voices themselves, which are a few hundred bytes each."""
    peaks = []
    for num_hours in (5, 10):
        order = [(7 * n + n // 5) % 4 for n in range(1440 * num_hours)]
        voices = conversation(order, 4)
        tracemalloc.start()
        found = diarize(voices, ON)
        peaks.append(tracemalloc.get_traced_memory()[1] / len(voices))
        tracemalloc.stop()
        assert len(found.vectors) == 4
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 6_000  # bytes a voice


@pytest.mark.parametrize("num_voices", [8, 48])
def test_at_most_as_many_speakers_as_allowed(num_voices):
    voices = conversation([n % 4 for n in range(num_voices)], 4)
    assert len(set(heard(voices, replace(ON, max=2)))) == 2


@pytest.mark.parametrize("num_voices", [8, 48])
def test_at_least_as_many_speakers_as_asked_for(num_voices):
    voices = conversation([0] * num_voices, 1)
    assert len(set(heard(voices, replace(ON, min=2, min_speaker_s=0.0)))) == 2


@pytest.mark.parametrize("num_voices", [8, 48])
def test_the_number_of_the_manifest_counts_before_that_of_the_run(num_voices):
    voices = tuple(conversation([n % 4 for n in range(num_voices)], 4))
    heard = stitch(heard_all(recording("talk", num_speakers=3), 1))
    told_apart = add_speakers(replace(heard, voices=voices), replace(ON, max=2))
    assert [one.name for one in told_apart.speakers] == ["speaker-1", "speaker-2", "speaker-3"]


def test_a_voice_too_short_to_be_a_speaker_joins_another():
    order = [0, 1] * 10
    stranger = voice(60.0, 61.0, centres(1, seed=9)[0])
    assert len(diarize([*conversation(order, 2), stranger], ON).vectors) == 2


def test_more_voices_than_fit_into_one_matrix_are_still_told_apart():
    order = [n % 5 for n in range(2 * MAX_ROWS + 100)]
    assert heard(conversation(order, 5)) == expected(order)


def test_two_voices_at_once_are_two_speakers():
    order = [0, 1] * 10
    both = [voice(60.0, 63.0, centres(2)[0]), voice(61.0, 62.0, centres(2)[0], clean_s=0.2)]
    spans = diarize([*conversation(order, 2), *both], ON).spans
    assert overlaps(spans) == [Span(61.0, 62.0)]


def unclear_after(pause_s):
    """A voice that is a little more like the second speaker, after the first one has spoken."""
    one, other = centres(2)
    said = conversation([1, 0] * 10, 2)
    began_s = said[-1].spans[-1].end_s + pause_s
    unclear = voice(began_s, began_s + 1.2, 0.9 * one + other, clean_s=0.5)
    return [*said, unclear]


def test_an_unclear_voice_is_that_of_who_spoke_right_before():
    first, *_, before, unclear = heard(unclear_after(pause_s=0.0))
    assert first != before
    assert unclear == before


def test_after_a_pause_an_unclear_voice_is_that_of_whom_it_is_most_like():
    first, *_, before, unclear = heard(unclear_after(pause_s=2.0))
    assert before != first == unclear


@pytest.mark.parametrize(("pause_s", "num_spans"), [(0.4, 1), (0.6, 2)])
def test_a_span_goes_on_over_a_short_pause(pause_s, num_spans):
    vector = centres(1)[0]
    said = [voice(0.0, 2.0, vector), voice(2.0 + pause_s, 4.0, vector)]
    assert len(diarize(said, ON).spans) == num_spans


def test_a_vector_of_each_speaker_is_like_its_voices():
    voices = conversation([0, 1, 0, 1] * 5, 2)
    found = diarize(voices, ON)
    assert found.vectors["speaker-1"] @ vector_of(voices[0]) > 0.8
    assert found.vectors["speaker-1"] @ vector_of(voices[1]) < 0.5


def test_no_voice_is_no_speaker():
    assert diarize([], ON).spans == ()
    assert len(cluster(np.zeros((0, 4), np.float32), np.zeros(0), ClusteringLimits())) == 0


times = st.floats(0, 100, allow_nan=False)
spans = st.lists(st.tuples(st.sampled_from("ab"), times, st.floats(0.1, 9)), min_size=1)
words = st.lists(st.tuples(times, st.floats(0, 2)))


@given(words, spans)
def test_every_word_gets_a_speaker_and_nothing_else_changes(words, spans):
    spans = [SpeakerSpan(name, start_s, start_s + length_s) for name, start_s, length_s in spans]
    given_words = [Word("w", start_s, start_s + length_s, 0.5) for start_s, length_s in words]
    named = with_speakers(given_words, spans)
    assert [replace(word, speaker=None) for word in named] == given_words
    assert {word.speaker for word in named} <= {span.speaker for span in spans}


@given(words, spans)
def test_a_word_inside_a_single_span_has_its_speaker(words, spans):
    spans = [SpeakerSpan(name, start_s, start_s + length_s) for name, start_s, length_s in spans]
    for start_s, length_s in words:
        word = Word("w", start_s, start_s + length_s, 0.5)
        touching = {s.speaker for s in spans if s.start_s < word.end_s and word.start_s < s.end_s}
        inside = {s.speaker for s in spans if s.start_s <= word.start_s and word.end_s <= s.end_s}
        if len(touching) == 1 and touching == inside and length_s:
            assert with_speakers([word], spans)[0].speaker in inside


def test_a_word_outside_of_all_spans_has_the_nearest_speaker():
    spans = [SpeakerSpan("a", 0.0, 5.0), SpeakerSpan("b", 10.0, 11.0)]
    named = with_speakers([Word("x", 5.5, 5.8, 1.0), Word("y", 9.5, 9.8, 1.0)], spans)
    assert [word.speaker for word in named] == ["a", "b"]


def test_seconds_and_words_of_the_speakers_add_up():
    spans = [SpeakerSpan("a", 0.0, 5.0), SpeakerSpan("b", 4.0, 6.0), SpeakerSpan("a", 7.0, 8.0)]
    words = with_speakers([Word("x", 1.0, 1.2, 1.0), Word("y", 5.2, 5.8, 1.0)], spans)
    found = [(one.name, one.duration_s, one.num_words) for one in speakers_of(words, spans)]
    assert found == [("a", 6.0, 1), ("b", 2.0, 1)]


@pytest.fixture(scope="module")
def networks():
    return load_networks(ON.checkpoint, torch.device("cpu"))


def test_two_synthetic_voices_are_told_apart_word_by_word(networks):
    samples_N = read_audio(SAMPLES / "ten-minutes.opus")[: 24_000 * 60]
    truth = json.loads((SAMPLES / "ten-minutes.json").read_text())
    truth = [word for word in truth if word["end_s"] < 60]
    found = diarize(voices_of(samples_N, 24_000, networks), ON).spans
    named = with_speakers([Word("w", one["start_s"], one["end_s"], 1.0) for one in truth], found)
    pairs = [(word.speaker, one["voice"]) for word, one in zip(named, truth, strict=True)]
    assert len(set(pairs)) == 2
    assert len({speaker for speaker, _ in pairs}) == 2


def test_voices_of_silence_are_none(networks):
    assert voices_of(np.zeros(24_000, np.int16), 24_000, networks) == ()
