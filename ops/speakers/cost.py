"""What speakers=on costs beside speakers=off: the model tiny on this CPU, in turns in one process.

    OMP_NUM_THREADS=1 python -m ops.speakers.cost RECORDING [SECONDS_OF_IT] [ROUNDS]

The recording is cut into shards of a minute, which are transcribed together, as an actor does. A
third side listens to the same shards without transcribing them.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from nightscribe.audio.segmentation import ShardConfig, cut
from nightscribe.jobs.file import load_transcriber, read_audio
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.voices import load_listener
from nightscribe.transcription.clips import Clip

RATE_HZ = 24_000
NUM_SLOTS = 8


def clips_of(recording: Path, duration_s: float) -> list[Clip]:
    sound_N = read_audio(recording)[: round(duration_s * RATE_HZ)]
    pieces = cut(iter([sound_N]), RATE_HZ, ShardConfig())
    return [Clip(str(piece.index), piece.samples_N) for piece in pieces]


def sides(clips: list[Clip]) -> dict[str, Callable[[], object]]:
    asked = {"engine.num_slots": NUM_SLOTS, "engine.device": "cpu"}
    without = load_transcriber("tiny", settings=asked)
    beside = load_transcriber("tiny", settings=asked | {"speakers": "on"})
    listener = load_listener(SpeakersConfig(is_on=True), torch.device("cpu"), RATE_HZ)
    assert listener is not None
    return {
        "speakers=off": lambda: list(without.transcribe(clips)),
        "speakers=on": lambda: list(beside.transcribe(clips)),
        "voices alone": lambda: [listener(clip.samples_N) for clip in clips],
    }


def main(recording: Path, duration_s: float = 240.0, num_rounds: int = 3) -> None:
    clips = clips_of(recording, duration_s)
    sound_s = sum(len(clip.samples_N) for clip in clips) / RATE_HZ
    taken: dict[str, list[float]] = {}
    transcribed = sides(clips)
    for number in range(num_rounds + 1):
        for name, transcribe in transcribed.items():
            began_s = time.process_time()
            transcribe()
            if number:  # the first round warms up
                taken.setdefault(name, []).append(1000 * (time.process_time() - began_s) / sound_s)
    for name, each in taken.items():
        sys.stdout.write(
            f"{name}: {median(each):.1f} ms of CPU for a second of sound "
            f"({min(each):.1f} to {max(each):.1f})\n"
        )
    ratio = median(taken["speakers=on"]) / median(taken["speakers=off"])
    sys.stdout.write(f"{ratio:.2f} times as much\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]), *map(int, sys.argv[3:4]))
