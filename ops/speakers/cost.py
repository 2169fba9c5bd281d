"""What speakers=on costs beside speakers=off: the model tiny on this CPU, in turns in one process.

    OMP_NUM_THREADS=1 python -m ops.speakers.cost RECORDING [SECONDS_OF_IT] [ROUNDS]

The recording is cut into shards of a minute, which are transcribed together, as an actor does. A
third side listens to the same shards without transcribing them: it, and its two networks.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from nightscribe.audio.segmentation import ShardConfig, cut
from nightscribe.jobs.file import load_transcriber, read_audio
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.voices import voices_of
from nightscribe.speakers.weights import load_networks
from nightscribe.transcription.clips import Clip

RATE_HZ = 24_000
NUM_SLOTS = 8
spent_s: defaultdict[str, float] = defaultdict(float)


def clips_of(recording: Path, duration_s: float) -> list[Clip]:
    sound_N = read_audio(recording)[: round(duration_s * RATE_HZ)]
    pieces = cut(iter([sound_N]), RATE_HZ, ShardConfig())
    return [Clip(str(piece.index), piece.samples_N) for piece in pieces]


def sides(clips: list[Clip]) -> dict[str, Callable[[], object]]:
    asked = {"engine.num_slots": NUM_SLOTS, "engine.device": "cpu"}
    without = load_transcriber("tiny", settings=asked)
    beside = load_transcriber("tiny", settings=asked | {"speakers": "on"})
    networks = load_networks(SpeakersConfig().checkpoint, torch.device("cpu"))
    for name, network, method in (
        ("segmentation", networks.segmentation, "active"),
        ("embedding", networks.embedding, "__call__"),
    ):
        _time(name, type(network), method)
    return {
        "speakers=off": lambda: list(without.transcribe(clips)),
        "speakers=on": lambda: list(beside.transcribe(clips)),
        "voices alone": lambda: [voices_of(clip.samples_N, RATE_HZ, networks) for clip in clips],
    }


def _time(name: str, network: type, method: str) -> None:
    """Count what every call of this method takes."""
    original = getattr(network, method)

    def timed(*given: object) -> object:
        began_s = time.process_time()
        result = original(*given)
        spent_s[name] += time.process_time() - began_s
        return result

    setattr(network, method, timed)


def main(recording: Path, duration_s: float = 240.0, num_rounds: int = 3) -> None:
    clips = clips_of(recording, duration_s)
    sound_s = sum(len(clip.samples_N) for clip in clips) / RATE_HZ
    taken: dict[str, list[float]] = {}
    transcribed = sides(clips)
    for number in range(num_rounds + 1):
        for name, transcribe in transcribed.items():
            spent_s.clear()
            began_s = time.process_time()
            transcribe()
            spent_s[name] = time.process_time() - began_s
            parts = [name] if name != "voices alone" else list(spent_s)
            for part in parts if number else []:  # the first round warms up
                taken.setdefault(part, []).append(1000 * spent_s[part] / sound_s)
    for name, each in taken.items():
        sys.stdout.write(
            f"{name}: {median(each):.1f} ms of CPU for a second of sound "
            f"({min(each):.1f} to {max(each):.1f})\n"
        )
    ratio = median(taken["speakers=on"]) / median(taken["speakers=off"])
    sys.stdout.write(f"{ratio:.2f} times as much\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]), *map(int, sys.argv[3:4]))
