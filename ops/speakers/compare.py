"""Diarization errors of Nightscribe and of the package `senko` on the same composed dialogues.

    python -m ops.speakers.compare PACKAGE.deb FOLDER [actors|persons] [test|development]
    PYTHONPATH=.:SENKO python -m ops.speakers.compare PACKAGE.deb FOLDER actors test senko

Speakers are divided by name into a development and a test half: every second one. `SENKO` is a
folder with that package and what it needs. Neither side gets a collar. In the dialogues of `actors`
every speaker is another actor; in those of `persons` one actor may speak as several persons, whom
the truth counts apart.
"""

import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import soundfile
import torch

from nightscribe.audio.segmentation import ShardConfig, cut
from nightscribe.records import Recording, Shard, ShardTranscript, SpeakerSpan
from nightscribe.scoring.speaker_errors import SpeakerErrors, speaker_errors
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.diarization import Diarization, diarize
from nightscribe.speakers.features import log_mel
from nightscribe.speakers.voices import voices_of
from nightscribe.speakers.weights import SpeakerNetworks, load_networks
from nightscribe.stitching import stitch
from ops.speakers.clips import ACTOR_OF, RATE_HZ, game_clips, with_enough
from ops.speakers.dialogues import Dialogue, compose

# Speakers, seconds, overlap, seed.
DIALOGUES = {
    "persons": (
        (2, 150, 0.0, 1),
        (2, 120, 0.2, 1),
        (3, 150, 0.1, 1),
        (4, 180, 0.0, 1),
        (5, 200, 0.1, 1),
        (6, 220, 0.2, 1),
        (2, 120, 0.1, 2),
        (3, 180, 0.0, 2),
        (4, 180, 0.2, 2),
    ),
    "actors": tuple(
        (num_speakers, 90 + 20 * num_speakers, overlap, seed)
        for num_speakers, seeds in ((2, (3, 4)), (3, (3, 4)), (4, (3,)), (5, (3,)), (6, (3,)))
        for seed in seeds
        for overlap in (0.0, 0.1, 0.2)
    ),
}
SHORTEST_CLIP_S = 0.7
EMBEDDED_AT_ONCE = 8


def dialogues(package: Path, folder: Path, kind: str, half: str) -> Iterator[Dialogue]:
    clips = with_enough(game_clips(package, folder), 60, 1.0)
    names = sorted(clips)[1 if half == "test" else 0 :: 2]
    for num_speakers, duration_s, overlap, seed in DIALOGUES[kind]:
        draw = random.Random(f"game{num_speakers}{float(overlap)}{seed}")
        chosen = {
            name: [one for one in clips[name] if one.duration_s > SHORTEST_CLIP_S]
            for name in drawn(names, num_speakers, kind, draw)
        }
        name = f"game-{half}-{num_speakers}-{duration_s}-{float(overlap)}-{seed}"
        yield compose(name, chosen, duration_s, overlap, seed)


def drawn(names: list[str], num_speakers: int, kind: str, draw: random.Random) -> list[str]:
    while True:
        drawn = draw.sample(names, num_speakers)
        if kind == "persons" or len({ACTOR_OF[name] for name in drawn}) == num_speakers:
            return drawn


def ours(dialogue: Dialogue) -> list[SpeakerSpan]:
    return list(diarized(dialogue).spans)


def diarized(dialogue: Dialogue) -> Diarization:
    """What the pipeline finds in it, shard by shard and stitched."""
    recording = Recording(uri=dialogue.name, size_bytes=1, version="1")
    shards = [
        ShardTranscript(
            shard=Shard(
                recording=recording,
                index=piece.index,
                sample_rate_hz=RATE_HZ,
                start_sample=piece.start_sample,
                end_sample=piece.end_sample,
                owned_start_sample=piece.owned_start_sample,
                owned_end_sample=piece.owned_end_sample,
                is_last=piece.is_last,
            ),
            words=(),
            model="",
            model_revision="",
            voices=voices_of(piece.samples_N, RATE_HZ, our_networks()),
        )
        for piece in cut(iter([dialogue.samples_N]), RATE_HZ, ShardConfig())
    ]
    return diarize(stitch(shards).voices, SpeakersConfig(is_on=True))


@cache
def our_networks() -> SpeakerNetworks:
    return load_networks(SpeakersConfig().checkpoint, torch.device("cpu"))


@cache
def senko_diarizer() -> Any:
    """The package's library of features needs AVX-512: without it, it gets ours.

    It takes them where it takes those of kaldifeat on a GPU, and the vectors of our CAM++ with the
    same weights, which take less time. `tests/speakers` hold that both are those of the package.
    Its voice activity (Silero), its pieces and its clustering run as they come.
    """
    import senko

    diarizer = senko.Diarizer(device="cpu", warmup=False, quiet=True)
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        embedding = our_networks().embedding
        diarizer.use_gpu_fbank = True
        diarizer.kaldifeat_fbank = lambda pieces: [log_mel(piece_N) for piece_N in pieces]
        diarizer.embeddings_model = lambda pieces_BTF: torch.cat(
            [embedding(some_BTF) for some_BTF in pieces_BTF.split(EMBEDDED_AT_ONCE)]
        )
    return diarizer


def of_senko(dialogue: Dialogue, folder: Path) -> list[SpeakerSpan]:
    path = folder / f"{dialogue.name}.wav"
    soundfile.write(path, dialogue.samples_N, RATE_HZ)
    found = senko_diarizer().diarize(str(path))
    segments = found["merged_segments"] if found else []
    return [SpeakerSpan(one["speaker"], one["start"], one["end"]) for one in segments]


def main(package: Path, folder: Path, kind: str, half: str, side: str) -> None:
    total = SpeakerErrors()
    for dialogue in dialogues(package, folder, kind, half):
        truth = [SpeakerSpan(one.speaker, one.start_s, one.end_s) for one in dialogue.spoken]
        found = of_senko(dialogue, folder) if side == "senko" else ours(dialogue)
        errors = speaker_errors(truth, found)
        sys.stdout.write(f"| {dialogue.name} | {_shares(errors)} | ")
        sys.stdout.write(f"{errors.num_speakers} | {errors.num_found} |\n")
        sys.stdout.flush()
        total += errors
    right = f"{total.num_rightly_counted} of {total.num_recordings}"
    sys.stdout.write(f"| all | {_shares(total)} | | {right} right |\n")


def _shares(errors: SpeakerErrors) -> str:
    """The error rate, and what is missed, falsely heard and confused of it."""
    seconds = (errors.missed_s, errors.false_alarm_s, errors.confused_s)
    return " | ".join(f"{one / errors.reference_s:.1%}" for one in (sum(seconds), *seconds))


if __name__ == "__main__":
    asked = sys.argv[3:]
    main(*map(Path, sys.argv[1:3]), *asked, *("actors", "test", "ours")[len(asked) :])
