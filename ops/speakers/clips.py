"""Clips of known speakers: from a Debian package of a game, and from the corpus of `tiny`.

The game is Flight of the Amazon Queen: 3,984 clips of its dialogues, MP3 at 11 kHz and 16 kb/s. Its
licence allows to pass the data on, not to sell it; here it is read and nothing of it is kept.
A clip is named after a dialogue, a line, J for the hero or P for the person he talks to, and the
dialogue after that person. One actor may play several persons; the credits say which.
"""

import io
import json
import re
import struct
import subprocess
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

RATE_HZ = 16_000
ARCHIVE = "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
NAME_LENGTH, ENTRY_LENGTH, TABLE_START = 12, 21, 15
HERO = "joe"
# By the credits of the game, for the persons that have at least a minute of speech. Klunk is
# credited to two actors; here he counts as the one who has other persons too.
PERSONS_OF_ACTOR = {
    "Brad Lavelle": (HERO,),
    "Tom Hill": ("ape", "jim", "lou", "sparky"),
    "Bill Hootkins": ("bud", "chef", "frank", "laris", "man"),
    "Enn Reitel": ("death", "henry", "klunk"),
    "Penelope Keith": ("oracle",),
    "Jon Coleman": ("bob",),
    "Debbie Arnold": ("prin",),
    "Barry James": ("chief", "ian"),
    "Lisa Valdez": ("faye",),
    "Jessica Martin": ("naomi", "sec", "zombie"),
    "Regina Reagan": ("tam", "witch"),
}
ACTOR_OF = {person: actor for actor, persons in PERSONS_OF_ACTOR.items() for person in persons}
LOUD_DBFS = -24.0  # every clip is brought to this level
QUIET_DB = 35.0  # below its loudest part a clip is silent; such edges are cut off
HOP_S = 0.01

CLIP_NAME = re.compile(r"(?P<dialogue>\d\d)\d{4}(?P<side>[JP])\d\.SB")


@dataclass(frozen=True)
class Clip:
    """Sound of one speaker, at 16 kHz between -1 and 1, without silence at its edges."""

    speaker: str
    text: str
    samples_N: NDArray[np.float32]

    @property
    def duration_s(self) -> float:
        return len(self.samples_N) / RATE_HZ


def game_clips(package: Path, folder: Path) -> dict[str, list[Clip]]:
    """The clips of each person of the game, from the .deb; `folder` gets its files."""
    if not (folder / ARCHIVE).exists():
        subprocess.run(["dpkg", "-x", package, folder], check=True)
    data = (folder / ARCHIVE).read_bytes()
    entries = archive_entries(data)
    person_of = _persons(data, entries)
    clips: dict[str, list[Clip]] = defaultdict(list)
    for name, (start, size) in sorted(entries.items()):
        match = CLIP_NAME.fullmatch(name)
        if match is None or match["dialogue"] not in person_of:
            continue
        speaker = HERO if match["side"] == "J" else person_of[match["dialogue"]]
        clip = _decoded(data[start : start + size], speaker, "")
        clips[speaker] += [clip] if clip is not None else []
    return clips


def synthetic_clips(
    folder: Path, voices: Collection[str] | None = None, most_s: float = inf
) -> dict[str, list[Clip]]:
    """Utterances of each voice of a folder with a manifest, as `ops/tiny` makes them.

    Of `voices` only, and of each until there is so much.
    """
    clips: dict[str, list[Clip]] = defaultdict(list)
    heard_s: Counter[str] = Counter()
    for file, utterances in sorted(_by_file(folder).items()):
        wanted = [row for row in utterances if voices is None or row["voice"] in voices]
        wanted = [row for row in wanted if heard_s[row["voice"]] < most_s]
        if not wanted:
            continue
        samples_N, rate_hz = soundfile.read(folder / file, dtype="float32")
        for row in wanted:
            first, end = (round(row[key] * rate_hz) for key in ("start_s", "end_s"))
            clip = _prepared(samples_N[first:end], rate_hz, row["voice"], row["text"])
            clips[row["voice"]] += [clip] if clip is not None else []
            heard_s[row["voice"]] += (end - first) / rate_hz
    return clips


def synthetic_voices(folder: Path, shortest_s: float) -> Counter[str]:
    """The seconds of each voice in utterances that are not shorter."""
    seconds: Counter[str] = Counter()
    for row in (row for rows in _by_file(folder).values() for row in rows):
        if row["end_s"] - row["start_s"] >= shortest_s:
            seconds[row["voice"]] += row["end_s"] - row["start_s"]
    return seconds


def _by_file(folder: Path) -> dict[str, list[dict]]:
    by_file: dict[str, list[dict]] = defaultdict(list)
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        by_file[row["file"]].append(row)
    return by_file


def with_enough(
    clips: Mapping[str, Sequence[Clip]], total_s: float, shortest_s: float
) -> dict[str, list[Clip]]:
    """The speakers that have that much sound in clips that are not shorter."""
    long = {
        name: [one for one in some if one.duration_s >= shortest_s] for name, some in clips.items()
    }
    return {
        name: some
        for name, some in sorted(long.items())
        if sum(one.duration_s for one in some) >= total_s
    }


def archive_entries(data: bytes) -> dict[str, tuple[int, int]]:
    """Where each file of the game's archive starts, and its size."""
    (num_entries,) = struct.unpack_from(">H", data, TABLE_START - 2)
    found = {}
    for number in range(num_entries):
        start = TABLE_START + number * ENTRY_LENGTH
        name = data[start : start + NAME_LENGTH].split(b"\0")[0].decode()
        found[name] = struct.unpack_from(">II", data, start + NAME_LENGTH + 1)
    return found


def _persons(data: bytes, entries: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """The person of each dialogue by its number, which the dialogue's file begins with."""
    persons = {}
    for name, (start, _) in entries.items():
        if name.endswith(".DOG"):
            (number,) = struct.unpack_from(">H", data, start + 24)
            persons[f"{number:02d}"] = re.sub(r"\d*\.DOG", "", name).lower()
    return persons


def _decoded(encoded: bytes, speaker: str, text: str) -> Clip | None:
    try:
        samples_N, rate_hz = soundfile.read(io.BytesIO(encoded), dtype="float32")
    except soundfile.LibsndfileError:
        return None
    return _prepared(samples_N, rate_hz, speaker, text)


def _prepared(samples_N: NDArray[np.float32], rate_hz: int, speaker: str, text: str) -> Clip | None:
    """At 16 kHz and the common level, without silent edges; None if all is silent."""
    from nightscribe.speakers.features import at_16_khz

    as_int16 = torch.from_numpy(np.round(samples_N * 32767).clip(-32768, 32767))
    resampled_N = at_16_khz(as_int16, rate_hz).numpy()
    hop = round(HOP_S * RATE_HZ)
    power = np.square(resampled_N[: len(resampled_N) // hop * hop].reshape(-1, hop)).mean(axis=1)
    if not len(power) or power.max() < 1e-7:
        return None
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET_DB / 10))
    kept_N = resampled_N[loud[0] * hop : (loud[-1] + 1) * hop]
    level = np.sqrt(power[loud].mean())
    return Clip(speaker, text, (kept_N * (10 ** (LOUD_DBFS / 20) / level)).astype(np.float32))
