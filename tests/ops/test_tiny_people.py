"""Sets of human speech: how their texts are read, and which may choose."""

import struct

import pytest

from ops.tiny.confusions import confusions
from ops.tiny.game import known_lines
from ops.tiny.prompts import is_development, normalised, transcripts


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ("Press 6 to play the next message.", "press six to play the next message"),
        ("folder 15", "folder one five"),
        ("P.M.", "p m"),
        ("Press * or #", "press star or pound"),
        ("Don't call", "don't call"),
    ],
)
def test_texts_are_written_as_they_are_said(published, said):
    assert normalised(published) == said


def test_comments_of_the_list_are_no_prompts():
    listing = "; Core sounds: English\n\nvm-press: Press\nbeep: [a beep]\n"
    assert transcripts(listing) == {"vm-press": "press", "beep": "a beep"}


def test_a_text_chooses_or_tests_for_ever():
    assert is_development("press six to play the next message")
    assert not is_development("to call this number")


def test_confusions_count_what_was_heard_instead():
    said = ["press one to call", "one", "hello", "two"]
    heard = ["press nine call", "nine", "hello hello", ""]
    assert confusions(said, heard) == [
        ("one", "nine", 2),
        ("", "hello", 1),
        ("to", "", 1),
        ("two", "", 1),
    ]


def test_a_run_of_words_that_nobody_heard_counts_word_by_word():
    assert confusions(["press one now"], [""]) == [("now", "", 1), ("one", "", 1), ("press", "", 1)]


def text(number: int, said: str) -> bytes:
    packed = struct.pack(">HHB", 0, number, len(said)) + said.encode()
    return packed


def padded(record: bytes, place: int) -> bytes:
    return record + b"\0" * (-(place + len(record)) % 4)


def dialogue() -> bytes:
    """One level of choices; the hero has two texts, the other one."""
    body = bytearray(32 + 96)
    for number, said in ((0x6, "Yes.*FLNo, thanks!"), (0x1A, "Goodbye")):
        body += padded(text(number, said), len(body))
    person_start = len(body)
    body += padded(text(0x346, "Two days"), len(body))
    struct.pack_into(">5h", body, 0, 1, 0, 7, 2, 1)
    struct.pack_into(">H", body, 22, person_start)
    return bytes(20) + bytes(body)


def archive(files: dict[str, bytes]) -> bytes:
    start = 15 + 21 * len(files)
    head, tail = bytes(13) + struct.pack(">H", len(files)), b""
    for name, content in files.items():
        place = struct.pack(">BII", 0, start + len(tail), len(content))
        head += name.encode().ljust(12, b"\0") + place
        tail += content
    return head + tail


def test_lines_of_the_game_are_found_with_their_recordings():
    sounds = {
        "070006J1.SB": b"yes",
        "070006J2.SB": b"no, thanks",
        "07001AJ1.SB": b"goodbye",
        "070346P1.SB": b"two days",
    }
    packed = archive({"BOB.DOG": dialogue(), **sounds})
    known = {"yes", "goodbye", "two", "days", "no"}
    assert list(known_lines(packed, known)) == [
        ("070006J1.SB", "yes", b"yes"),
        ("07001AJ1.SB", "goodbye", b"goodbye"),
        ("070346P1.SB", "two days", b"two days"),
    ]


def test_lines_without_a_recording_are_left_out():
    assert not list(known_lines(archive({"BOB.DOG": dialogue()}), {"yes", "goodbye"}))
