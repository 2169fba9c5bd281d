"""Texts become words and breaks as in the reference; what cannot be spoken is one sentence."""

import pytest

from nightscribe.model.tts.script import (
    MAX_CHARACTERS,
    UNKNOWN_ID,
    Entry,
    ScriptError,
    ScriptOptions,
    script_entries,
)

OPTIONS = ScriptOptions(frame_rate_hz=12.5, has_speakers=True)


def encode(word: str) -> list[int]:
    """A piece for each letter; the tokenizer has Latin ones only."""
    return [ord(letter) if letter.isascii() else UNKNOWN_ID for letter in word]


def entries(*turns: str) -> list[Entry]:
    return script_entries(turns, encode, OPTIONS)


def test_a_word_has_its_pieces_and_the_first_of_a_speaker_says_who_speaks():
    found = entries("ab c", "d", "e")
    assert [entry.tokens for entry in found] == [(1, 97, 98), (99,), (2, 100), (1, 101)]
    assert [entry.padding for entry in found] == [3, 1, 2, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it\u2019s 5:30 (now)", ["it's", "5", "30", "now"]),
        ("a\tb c\nd", ["a", "b", "c", "d"]),
        ("one - two", ["one", "-", "two"]),
        ('a<break time="1s"/>b', ["a", "", "b"]),
        ('a <break time="1.5s"> b', ["a", "", "b"]),
        ("a <break time=1s/> b", ["a", "<break", "time=1s/>", "b"]),
    ],
)
def test_text_is_split_at_white_space_and_breaks(text, words):
    assert [entry.text for entry in entries(text)] == words


@pytest.mark.parametrize(("seconds", "steps"), [("0.04", 0), ("0.2", 2), ("0.28", 4), ("1", 12)])
def test_breaks_are_rounded_to_steps_half_to_even(seconds, steps):
    assert entries(f'a <break time="{seconds}s"/>')[1].padding == steps


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no word"),
        (" \n\t", "has no word"),
        ('<break time="1s"/>', "has no word"),
        ("()", "has no word"),
        ("a " * (MAX_CHARACTERS // 2 + 1), "50002 characters, at most 50000"),
        ('a <break time="1,5s"/>', 'break of "1,5s" is not a number'),
        ("one \x07 two", r"control character \(U\+0007\)"),
        ("one \ud800", r"control character \(U\+D800\)"),
        ("один два", "was made for another script"),
        ("你好", "was made for another script"),
    ],
)
def test_what_cannot_be_spoken_is_one_sentence(text, sentence):
    with pytest.raises(ScriptError, match=sentence) as raised:
        entries(text)
    assert "\n" not in str(raised.value)


def test_one_known_word_is_spoken_among_those_of_another_script():
    assert [entry.text for entry in entries("один two")] == ["один", "two"]
