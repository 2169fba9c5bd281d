"""A second set of people to test with: lines of a game that are all of the model's vocabulary.

    apt-get download flight-of-the-amazon-queen
    python -m ops.tiny.game PACKAGE.deb FOLDER

Eleven actors play some sixty persons, at 11 kHz and 16 kb/s. Nothing of it ships or is trained on.
Writes a folder with `transcripts.tsv`, as `gates.py` reads it.
"""

import argparse
import csv
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ops.speakers.clips import ARCHIVE, archive_entries
from ops.tiny.prompts import COLUMNS, normalised

HEADER, TREE_START, LEVEL_LENGTH = 20, 32, 96
ALIGNMENT = 4
# What an actor of the game does while he speaks; each begins another recording.
GESTURE = re.compile(r"\*(?:XY\d\d\(\d+,\d+\)|..)")


def lines(dialogue: bytes) -> Iterator[tuple[str, str]]:
    """Recordings of a dialogue file without its header, and their texts."""
    levels, _, key, num_hero, num_person = struct.unpack_from(">5h", dialogue)
    (person_start,) = struct.unpack_from(">H", dialogue, 22)
    hero_start = TREE_START + abs(levels) * LEVEL_LENGTH
    for side, start, count in (("J", hero_start, num_hero), ("P", person_start, num_person)):
        for number, text in _texts(dialogue, start, count):
            for part, said in enumerate(GESTURE.split(text), start=1):
                name = f"{key:2d}{number:4x}{side}{part:x}.SB"
                yield name.replace(" ", "0").upper(), normalised(said)


def _texts(dialogue: bytes, place: int, count: int) -> Iterator[tuple[int, str]]:
    for _ in range(count):
        number, length = struct.unpack_from(">HB", dialogue, place + 2)
        start = place + 5
        yield number, dialogue[start : start + length].decode("cp850")
        # Texts are padded, none at all is not.
        end = -(-(start + length) // ALIGNMENT) * ALIGNMENT
        place = end if length else start


def known_lines(archive: bytes, vocabulary: set[str]) -> Iterator[tuple[str, str, bytes]]:
    """Name, text and MP3 of every recording that says words of the vocabulary alone."""
    entries = archive_entries(archive)
    for start, size in _dialogues(entries):
        for recording, text in lines(archive[start + HEADER : start + size]):
            if recording in entries and text and vocabulary.issuperset(text.split()):
                first, length = entries[recording]
                yield recording, text, archive[first : first + length]


def _dialogues(entries: Mapping[str, tuple[int, int]]) -> Iterator[tuple[int, int]]:
    return (place for name, place in sorted(entries.items()) if name.endswith(".DOG"))


def write_game(package: Path, folder: Path, vocabulary: set[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg", "-x", str(package), unpacked], check=True)
        archive = (Path(unpacked) / ARCHIVE).read_bytes()
    with (folder / "transcripts.tsv").open("w", encoding="utf-8") as table:
        writer = csv.writer(table, delimiter="\t")
        writer.writerow(COLUMNS)
        for name, text, sound in known_lines(archive, vocabulary):
            (folder / f"{name}.mp3").write_bytes(sound)
            writer.writerow((f"{name}.mp3", text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.game")
    parser.add_argument("package", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocabulary", type=Path, default=Path("models/tiny/vocabulary.txt"))
    arguments = parser.parse_args()
    known = set(arguments.vocabulary.read_text(encoding="utf-8").split())
    write_game(arguments.package, arguments.folder, known)
