"""How long shards should be: errors and speed of one model over lengths of shards, as a table.

    python -m ops.benchmarks.shard_length [MODEL] [LENGTHS ...]

Cuts a recording of ten minutes at each length, transcribes all shards with one engine, stitches
them and counts wrong words; once as it is, once with its pauses taken out, so that hardly any cut
falls into silence. Then every slot gets streams of one length: the cost of a step with the start,
the prefix and the flush that every shard pays.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.segmentation import ShardConfig, cut
from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.records import Recording, Shard, ShardTranscript
from nightscribe.scoring.word_errors import TextPair, normaliser, score_corpus
from nightscribe.stitching import stitch
from nightscribe.transcription.transcriber import Clip, Transcriber

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 24_000
NUM_SLOTS = 8
LENGTHS_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
MAX_TIMED_S = 60.0  # of a stream whose speed is measured: the model forgets what is older
KEPT_PAUSE_S = 0.1


def main() -> None:
    model, lengths_s = (sys.argv[1:2] or ["models/tiny"])[0], tuple(map(float, sys.argv[2:]))
    lengths_s = lengths_s or LENGTHS_S
    torch.set_num_threads(1)
    engine = EngineConfig(device="cpu", dtype="float32", num_slots=NUM_SLOTS)
    transcriber = Transcriber.load(ModelConfig(checkpoint=model), engine)
    samples_N, words = composed()
    materials = {"as composed": samples_N, "without pauses": without_pauses(samples_N, words)}
    text = " ".join(word["text"] for word in words)
    wrong = {
        name: wrong_words(transcriber, material_N, text, lengths_s)
        for name, material_N in materials.items()
    }
    speeds = {length_s: speed(transcriber, samples_N, length_s) for length_s in lengths_s}
    sys.stdout.write("\n".join(table(wrong, speeds)) + "\n")


def composed() -> tuple[np.ndarray, list[dict]]:
    with AudioDecoder(ROOT / "samples/ten-minutes.opus", DecodeConfig(), RATE_HZ) as sound:
        samples_N = np.concatenate([block_NC[:, 0] for block_NC in sound])
    return samples_N, json.loads((ROOT / "samples/ten-minutes.json").read_text())


def without_pauses(samples_N: np.ndarray, words: list[dict]) -> np.ndarray:
    """The words, each with at most a little of the silence around it."""
    pieces, heard_s = [], 0.0
    for word in words:
        start_s = max(heard_s, word["start_s"] - KEPT_PAUSE_S)
        heard_s = word["end_s"] + KEPT_PAUSE_S
        pieces.append(samples_N[round(start_s * RATE_HZ) : round(heard_s * RATE_HZ)])
    return np.concatenate(pieces)


def wrong_words(
    transcriber: Transcriber, samples_N: np.ndarray, text: str, lengths_s: tuple[float, ...]
) -> dict[float, tuple[float, int, float]]:
    """By length: the word error rate, the number of shards, and the share transcribed twice."""
    shards = {length_s: list(shards_of(samples_N, length_s)) for length_s in lengths_s}
    clips = [
        Clip(f"{length_s}/{shard.index}", heard_N)
        for length_s, cuts in shards.items()
        for shard, heard_N in cuts
    ]
    clips.sort(key=lambda clip: -len(clip.samples_N))
    words = {output.clip_id: tuple(output.words) for output in transcriber.transcribe(clips)}
    found = {}
    for length_s, cuts in shards.items():
        output = [
            ShardTranscript(
                shard=shard, words=words[f"{length_s}/{shard.index}"], model="", model_revision=""
            )
            for shard, _ in cuts
        ]
        score = score_corpus([TextPair("", text, stitch(output).text)], normaliser("en"))
        twice = sum(len(heard_N) for _, heard_N in cuts) / len(samples_N) - 1
        found[length_s] = score.words.rate or 0.0, len(cuts), twice
    return found


def shards_of(samples_N: np.ndarray, length_s: float) -> Iterator[tuple[Shard, np.ndarray]]:
    config = ShardConfig(max_s=length_s, search_s=min(20.0, length_s / 3))
    recording = Recording(uri="composed", size_bytes=0, version="")
    for piece in cut([samples_N], RATE_HZ, config):
        bounds = ("start_sample", "end_sample", "owned_start_sample", "owned_end_sample")
        where = {name: getattr(piece, name) for name in (*bounds, "index", "is_last")}
        yield Shard(recording=recording, sample_rate_hz=RATE_HZ, **where), piece.samples_N


def speed(transcriber: Transcriber, samples_N: np.ndarray, length_s: float) -> float | None:
    """Seconds of audio per second of one core, with streams of this length in every slot."""
    if length_s > MAX_TIMED_S:
        return None
    num_samples = round(length_s * RATE_HZ)
    starts = range(0, NUM_SLOTS * num_samples, num_samples)
    pieces = [np.resize(np.roll(samples_N, -start), num_samples) for start in starts]
    clips = [Clip(str(n), np.ascontiguousarray(piece)) for n, piece in enumerate(pieces)]
    begun_s = time.process_time()
    for _ in transcriber.transcribe(clips):
        pass
    return NUM_SLOTS * length_s / (time.process_time() - begun_s)


def table(
    wrong: dict[str, dict[float, tuple[float, int, float]]], speeds: dict[float, float | None]
) -> Iterator[str]:
    titles = [
        f"{what}, {name}" for name in wrong for what in ("WER", "shards", "transcribed twice")
    ]
    yield f"| shard.max_s | {' | '.join(titles)} | x real time of one core |"
    yield "|---" * (len(titles) + 2) + "|"
    for length_s, speed_x in speeds.items():
        cells = []
        for found in wrong.values():
            rate, num_shards, twice = found[length_s]
            cells += [f"{rate:.1%}", str(num_shards), f"{twice:.1%}"]
        shown = "as at 60 s" if speed_x is None else f"{speed_x:.1f}"
        yield f"| {length_s:g} | {' | '.join(cells)} | {shown} |"


if __name__ == "__main__":
    main()
