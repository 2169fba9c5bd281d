"""Draws windows without end, in new speakers and on new lines each time, as stage C hears them.

    python -m ops.tiny.shards SHARDS --model models/tiny --corpora CORPUS... --count 100

A shard holds what the frozen convolutions say of its windows, and their words and phones. It is
there once its labels are. Shards go on from the last that is there; the oldest are removed.

W windows, N samples, T positions, D width.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.seanet import SEANet
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.training.augmentation import AugmentationConfig, augmented
from nightscribe.training.targets import TimedTokens
from nightscribe.training.windows import Utterance, WindowSampler
from ops.tiny.clips import clip_window
from ops.tiny.clock import wait_while_paused
from ops.tiny.corpus import RATE_HZ, Spoken, read_corpus
from ops.tiny.lines import LINES, over_line
from ops.tiny.pool import WINDOW, label_row, numbered
from ops.tiny.voicing import another_speaker

WINDOWS, UTTERANCES = 64, 360  # of a shard
SINGLE_WEIGHT = 2.0  # utterances of one word are drawn more often
NEW_SPEAKER_RATE, LINE_RATE, CLIPS_RATE, CLOSED_RATE = 0.75, 0.35, 0.3, 0.6
RUNNING = AugmentationConfig(max_level_db=-12, reverberate_rate=0.5)
CLIPS = AugmentationConfig(
    noise_rate=0.4, min_snr_db=10, reverberate_rate=0.3, min_level_db=-32, max_level_db=-15
)


class Drawn(NamedTuple):
    samples_N: np.ndarray
    words: tuple[TimedTokens, ...]


def draw(utterances: Sequence[Utterance], rng: np.random.Generator) -> Drawn:
    """A window of running speech or of clips, over a channel and sometimes a line."""
    num_samples = round(WINDOW.window_s * RATE_HZ)
    if rng.random() < CLIPS_RATE:
        clips = clip_window(utterances, num_samples, rng)
        samples_N = augmented(clips.samples_N, RATE_HZ, rng, CLIPS)
        if rng.random() < CLOSED_RATE:
            samples_N = samples_N * clips.is_clip_N
        return Drawn(_sent(samples_N, rng), clips.words)
    window = WindowSampler(utterances, RATE_HZ, WINDOW).draw(rng)
    samples_N = augmented(window.samples_N, RATE_HZ, rng, RUNNING)
    return Drawn(_sent(samples_N, rng), window.words)


def _sent(samples_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < LINE_RATE:
        return over_line(samples_N, LINES[int(rng.integers(len(LINES)))])
    return samples_N


def chosen(spoken: Sequence[Spoken], rng: np.random.Generator) -> Iterator[Spoken]:
    weights = np.array([SINGLE_WEIGHT if len(s.words) == 1 else 1.0 for s in spoken])
    for index in rng.choice(len(spoken), UTTERANCES, p=weights / weights.sum()):
        yield spoken[index]


def write_shard(spoken: Sequence[Spoken], seanet: SEANet, path: Path, seed: int) -> None:
    rng = np.random.default_rng((seed, int(path.stem)))
    utterances, occurrences = numbered(chosen(spoken, rng))
    voiced = [another_speaker(u, rng) if rng.random() < NEW_SPEAKER_RATE else u for u in utterances]
    convolved, labels = [], []
    for _ in range(WINDOWS):
        wait_while_paused()
        drawn = draw(voiced, rng)
        convolved.append(_convolved(seanet, drawn.samples_N))
        labels.append(json.dumps(label_row(drawn.words, occurrences)))
    np.save(path, np.stack(convolved))
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(labels) + "\n", encoding="utf-8")
    partial.rename(path.with_suffix(".jsonl"))


@torch.inference_mode()
def _convolved(seanet: SEANet, samples_N: np.ndarray) -> np.ndarray:
    return seanet(torch.from_numpy(samples_N)[None])[0].mT.numpy().astype(np.float16)


def shard_numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.jsonl"))


class Corpora:
    """Folders of speech, of which some may still be growing."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._spoken: dict[Path, list[Spoken]] = {}
        self._sizes: dict[Path, int] = {}

    def spoken(self) -> list[Spoken]:
        for folder in self.folders:
            manifest = folder / "manifest.jsonl"
            size = manifest.stat().st_size if manifest.exists() else 0
            if size != self._sizes.get(folder, 0):
                self._spoken[folder], self._sizes[folder] = list(read_corpus(folder)), size
        return [s for some in self._spoken.values() for s in some if s.words]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.shards")
    parser.add_argument("shards", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="whose convolutions hear")
    parser.add_argument("--corpora", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--keep", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.shards.mkdir(parents=True, exist_ok=True)
    checkpoint = open_checkpoint(str(arguments.model))
    tensors = (checkpoint.mimi_tensors(), checkpoint.language_model_tensors())
    model = SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.float32)
    corpora = Corpora(arguments.corpora)
    first = max(shard_numbers(arguments.shards), default=-1) + 1
    for number in itertools.islice(itertools.count(first), arguments.count):
        path = arguments.shards / f"{number:06}.npy"
        write_shard(corpora.spoken(), model.mimi.seanet, path, arguments.seed)
        for old in shard_numbers(arguments.shards)[: -arguments.keep]:
            (arguments.shards / f"{old:06}.jsonl").unlink()
            (arguments.shards / f"{old:06}.npy").unlink()
        sys.stdout.write(f"shard {number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
