"""Tokens become words with times, VAD probabilities the ends of turns."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.model.word_timestamps import TokenTimes, VadTimes, WordReader, turn_ends_s
from nightscribe.records import Word

PAD, END = 3, 0
# Said on a recording of 5.855 s by the published 2.6b-en: its start step is not in the list.
GOLDEN = [
    *[PAD] * 50,
    *[0, 1519, 263, 3, 3, 0, 3635, 428, 641, 0, 277, 3, 0, 265, 0, 267, 1162, 261, 274, 410, 0],
    *[272, 3, 0, 265, 0, 260, 1621, 0, 1174, 371, 262, 3, 3, 3, 0, 269, 0, 281, 0, 304, 0, 2433],
    *[3, 0, 266, 3, 0, 281, 1661, 3, 0, 376, 3, 3, 0, 350, 261, 401, 516, 263],
    *[PAD] * 18,
]


class Pieces:
    """A tokenizer in which every token is spelled as in this table; 100 up are bytes."""

    def __init__(self, *samples):
        self._pieces = dict(enumerate(samples, start=4))

    def begins_word(self, token):
        return self._pieces.get(token, "").startswith("\u2581")

    def decode(self, tokens):
        spelled = b"".join(
            bytes([token - 100])
            if token >= 100
            else self._pieces.get(token, "").replace("\u2581", " ").encode()
            for token in tokens
        )
        return spelled.decode(errors="replace").removeprefix(" ")


class Precision:
    """A tokenizer that spells tokens as their numbers, none with a space before it."""

    def begins_word(self, token):
        return False

    def decode(self, tokens):
        return "+".join(map(str, tokens))


def reader(tokenizer, delay_steps=6, prefix_frames=0):
    times = TokenTimes(frame_rate_hz=12.5, delay_steps=delay_steps, prefix_frames=prefix_frames)
    return WordReader(tokenizer=tokenizer, times=times)


def read(tokens, *, tokenizer=None, duration_s=100.0, **settings):
    """Words as (text, start_s, end_s), of certain tokens."""
    spoken = reader(tokenizer or Pieces("\u2581a", "\u2581b", "c"), **settings)
    words = spoken.read(tokens, [1.0] * len(tokens), duration_s)
    return [(word.text, round(word.start_s, 4), round(word.end_s, 4)) for word in words]


A, B, C = 4, 5, 6  # a word, another, and a piece that goes on


def test_the_published_tokens_give_the_published_times():
    words = read(GOLDEN, tokenizer=Precision(), delay_steps=32)
    assert words[:3] == [
        ("1519+263", 1.52, 1.92),
        ("3635+428+641", 1.92, 2.24),
        ("277", 2.24, 2.48),
    ]
    assert (len(GOLDEN), len(words)) == (129, 17)
    assert words[-1] == ("350+261+401+516+263", 5.92, 7.32)  # a second after its last piece


def test_the_prefix_and_the_delay_are_taken_off():
    tokens = [PAD] * 50 + [END, A, PAD, END, B, PAD]
    assert read(tokens, delay_steps=32, prefix_frames=13)[0] == ("a", 0.48, 0.72)


def test_a_recording_without_a_prefix_begins_with_its_first_frame():
    assert TokenTimes(frame_rate_hz=12.5, delay_steps=6).time_s(5) == 0


def test_a_piece_with_a_space_begins_a_word():
    assert read([PAD] * 5 + [END, A, C, B, END]) == [("ac", 0.0, 0.24), ("b", 0.24, 0.32)]


def test_a_word_without_an_end_of_padding_starts_at_its_first_piece():
    tokens = [PAD] * 5 + [END, A, PAD, PAD, B, C, PAD, END]
    assert read(tokens) == [("a", 0.0, 0.32), ("bc", 0.32, 0.56)]


def test_a_word_that_nothing_ends_lasts_a_second_more():
    assert read([PAD] * 5 + [END, A, C] + [PAD] * 99) == [("ac", 0.0, 1.16)]
    assert read([PAD] * 5 + [END, A, *[PAD] * 50, B]) == [("a", 0.0, 1.08), ("b", 4.16, 5.16)]


def test_a_word_ends_at_the_end_of_padding_however_late():
    assert read([PAD] * 5 + [END, A, *[PAD] * 50, END, B])[0] == ("a", 0.0, 4.16)


def test_words_end_with_the_recording():
    assert read([PAD] * 5 + [END, A, PAD, END, B], duration_s=0.2) == [
        ("a", 0, 0.2),
        ("b", 0.2, 0.2),
    ]


def test_the_bytes_of_a_character_are_decoded_together():
    euro = [100 + byte for byte in "\u20ac".encode()]
    samples = Pieces("\u2581a", "\u2581b", "c", "\u2581")
    assert read([*[PAD] * 5, END, 7, *euro, PAD], tokenizer=samples) == [("\u20ac", 0.0, 1.32)]
    torn = [*[PAD] * 5, END, 7, euro[0], PAD, *euro[1:], C, PAD]
    assert read(torn, tokenizer=samples) == [("\u20acc", 0.0, 1.48)]


def test_a_torn_character_is_mended_across_paddings_alone():
    first, second = (100 + byte for byte in "\u00e9".encode())
    assert read([*[PAD] * 5, END, first, PAD, second, PAD]) == [("\u00e9", 0.0, 1.24)]
    apart = read([*[PAD] * 5, END, first, END, second, PAD])
    assert [text for text, *_ in apart] == ["\ufffd"] * 2


def test_tokens_that_spell_nothing_are_no_words():
    assert read([*[PAD] * 5, END, 1, 2, PAD, END, A, PAD, END]) == [("a", 0.32, 0.56)]


def test_what_closed_before_the_delay_was_over_is_no_word():
    assert read([END, A, C, PAD, PAD, PAD, END, B, PAD, END]) == [("b", 0.08, 0.32)]
    assert read([PAD, PAD, END, A, C, PAD, PAD, END]) == []
    assert read([PAD, PAD, PAD, END, A, C, PAD, END]) == [("ac", 0.0, 0.16)]


def test_steps_of_a_prompt_are_left_out():
    tokens = [*[PAD] * 5, END, A, PAD, END, B, PAD, END]
    words = reader(Pieces("\u2581a", "\u2581b")).read(
        tokens, [1.0] * len(tokens), 9.0, first_step=8
    )
    assert [word.text for word in words] == ["b"]


def test_the_end_of_padding_right_after_a_prompt_starts_its_word():
    tokens = [PAD] * 6 + [4, END, PAD, 5, PAD]
    words = reader(Pieces("\u2581a", "\u2581b", "c")).read(tokens, [1.0] * 11, 9.0, first_step=7)
    assert [(word.text, round(word.start_s, 4)) for word in words] == [("b", 0.16)]


def test_what_a_prompt_ended_with_starts_no_word():
    tokens = [PAD] * 6 + [A, END, B, PAD]
    words = reader(Pieces("\u2581a", "\u2581b")).read(tokens, [1.0] * 10, 9.0, first_step=8)
    assert [(word.text, round(word.start_s, 4)) for word in words] == [("b", 0.24)]


def test_a_word_that_a_prompt_began_is_left_out_whole():
    tokens = [*[PAD] * 5, END, A, C, C, B, PAD]
    words = reader(Pieces("\u2581a", "\u2581b", "c")).read(tokens, [1.0] * 11, 9.0, first_step=7)
    assert [word.text for word in words] == ["b"]


def test_confidence_is_the_geometric_mean_of_the_words_tokens():
    tokens, probabilities = [*[PAD] * 5, END, A, C, PAD], [0.1] * 6 + [0.5, 0.8, 0.1]
    [word] = reader(Pieces("\u2581a", "\u2581b", "c")).read(tokens, probabilities, 9.0)
    assert word.confidence == pytest.approx((0.5 * 0.8) ** 0.5)
    [word] = reader(Pieces("\u2581a", "\u2581b", "c")).read(tokens, [0.0] * 9, 9.0)
    assert word.confidence == 0.0


TOKENS = st.lists(st.sampled_from([PAD, PAD, END, A, B, C, 1, 100, 300]), max_size=60)
SETTINGS = {
    "delay_steps": st.integers(0, 40),
    "prefix_frames": st.integers(0, 15),
    "duration_s": st.floats(0, 5),
}


@given(tokens=TOKENS, **SETTINGS)
def test_times_never_decrease_and_never_leave_the_recording(tokens, duration_s, **settings):
    words = read(tokens, duration_s=duration_s, **settings)
    times_s = [time_s for _, start_s, end_s in words for time_s in (start_s, end_s)]
    assert times_s == sorted(times_s)
    assert all(0 <= time_s <= round(duration_s, 4) for time_s in times_s)


@given(tokens=TOKENS)
def test_no_piece_is_lost_or_repeated(tokens):
    spelled = "".join(text for text, *_ in read(tokens, delay_steps=0))
    heard = [token for token in tokens if token in (A, B, C)]
    assert [letter for letter in spelled if letter in "abc"] == [" abc"[t - 3] for t in heard]


@given(tokens=TOKENS, cut=st.integers(0, 60))
def test_later_tokens_never_change_a_word_that_has_ended(tokens, cut):
    whole, start = read(tokens), read(tokens[:cut])
    ended = [word for word in start if word[2] < (cut - 6) / 12.5 - 1]
    assert whole[: len(ended)] == ended


@given(
    tokens=st.lists(st.sampled_from([PAD, END, A, B, C]), max_size=40),
    probabilities=st.lists(st.floats(1e-6, 1), min_size=40, max_size=40),
)
def test_confidence_lies_between_the_least_and_the_most_certain_token(tokens, probabilities):
    for word in reader(Pieces("\u2581a", "\u2581b", "c")).read(tokens, probabilities, 9.0):
        assert min(probabilities) * 0.999 <= word.confidence <= max(probabilities) * 1.001


def server_words(tokens, delay_steps):
    """The production server's own loop, as (token, start_s, end_s); ends may be missing."""
    words, open_word, last_stop_s, is_open = [], [], 0.0, False
    for step, token in enumerate(tokens, start=1):
        if step < delay_steps:
            continue
        if token in (PAD, END) and open_word:
            words.append([open_word, last_stop_s, None])
            open_word, is_open = [], True
        elif token not in (PAD, END):
            open_word.append(token)
        if token == END:
            last_stop_s = (step - delay_steps) / 12.5
            if is_open:
                words[-1][2], is_open = last_stop_s, False
    return words


@given(
    words=st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=12
    ),
    delay_steps=st.integers(0, 8),
)
def test_it_is_the_servers_rule_where_that_has_no_holes(words, delay_steps):
    tokens = [PAD] * 8
    for pads_before, num_pieces, pads_after in words:
        tokens += [PAD] * pads_before + [END] + [10 + pads_before] * num_pieces + [PAD] * pads_after
    tokens += [END]
    ours = read(tokens, tokenizer=Precision(), delay_steps=delay_steps)
    theirs = [
        ("+".join(map(str, samples)), round(start_s, 4), round(end_s, 4))
        for samples, start_s, end_s in server_words(tokens, delay_steps)
    ]
    assert ours == theirs


def test_the_mean_does_not_underflow():
    tokens = [*[PAD] * 5, END, A, *[C] * 300]
    [word] = reader(Pieces("\u2581a", "\u2581b", "c")).read(tokens, [1e-8] * len(tokens), 99.0)
    assert word.confidence == pytest.approx(exp(log(1e-8)))


TIMES = VadTimes(frame_rate_hz=10.0, lead_frames=5)
WORDS = [Word("one", 2.0, 2.3, 0.9), Word("two", 2.5, 2.8, 0.9), Word("three", 6.0, 6.4, 0.9)]


def vad(*pause_spans, num_steps=120, num_vad_heads=4):
    """A pause predicted in these spans of steps, by the head of two seconds alone."""
    vad_TH = np.full((num_steps, num_vad_heads), 0.1)
    for first, end in pause_spans:
        vad_TH[first:end, 2] = 0.9
    return vad_TH


def test_a_turn_ends_when_a_pause_is_predicted_after_words():
    vad_TH = vad((35, 60), (72, 110))
    assert turn_ends_s(vad_TH, WORDS, TIMES, 12.0) == pytest.approx([3.0, 6.7])


def test_pauses_before_words_and_repeated_ones_end_no_turn():
    vad_TH = vad((12, 20), (35, 40), (45, 60))
    assert turn_ends_s(vad_TH, WORDS[:2], TIMES, 12.0) == pytest.approx([3.0])


def test_the_vad_heads_are_ignored_in_the_first_second():
    words = [Word("one", 0.0, 0.2, 0.9)]
    assert turn_ends_s(vad((8, 30)), words, TIMES, 12.0) == []
    assert turn_ends_s(vad((14, 30)), words, TIMES, 12.0) == pytest.approx([0.9])


def test_a_turn_end_after_the_recording_is_dropped():
    assert turn_ends_s(vad((80, 110)), WORDS, TIMES, 7.0) == []


def test_a_model_without_vad_heads_finds_no_turn_ends():
    assert turn_ends_s(np.zeros((50, 0)), WORDS, TIMES, 5.0) == []
