"""Draws augmented windows of a corpus into one file, for the stages that train the codec.

    python -m ops.tiny.pool CORPUS POOL --count 5000 --seed 1

Every drawn word keeps the number of its occurrence, so its phones can be laid out again at the
place and speed at which the window has it.

N samples, W windows.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nightscribe.training.augmentation import AugmentationConfig, augmented
from nightscribe.training.targets import TimedTokens
from nightscribe.training.windows import Utterance, Window, WindowConfig, WindowSampler
from ops.tiny.corpus import RATE_HZ, Spoken, read_corpus

WINDOW = WindowConfig(window_s=15.36, splice_rate=0.35, silent_rate=0.06)
SOUND_FILE, LABEL_FILE = "windows.npy", "labels.jsonl"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A word as it was once spoken: its phones as shares of its length."""

    text: str
    phones: tuple[tuple[str, float, float], ...]

    def phones_within(self, start_s: float, end_s: float) -> Iterator[tuple[str, float, float]]:
        length_s = end_s - start_s
        for phone, first, last in self.phones:
            yield phone, start_s + first * length_s, start_s + last * length_s


def numbered(corpus: Iterator[Spoken]) -> tuple[list[Utterance], list[Occurrence]]:
    """Utterances whose words are numbers of occurrences."""
    utterances, occurrences = [], []
    for spoken in corpus:
        words = []
        for word in spoken.words:
            words.append(TimedTokens((len(occurrences),), word.start_s, word.end_s))
            occurrences.append(_occurrence(spoken, word.text, word.start_s, word.end_s))
        sound_N = spoken.samples_N.astype(np.float32) / 32768
        utterances.append(Utterance(sound_N, tuple(words)))
    return utterances, occurrences


def _occurrence(spoken: Spoken, text: str, start_s: float, end_s: float) -> Occurrence:
    length_s = max(end_s - start_s, 1e-3)
    phones = tuple(
        (phone, (first_s - start_s) / length_s, (last_s - start_s) / length_s)
        for phone, first_s, last_s in spoken.phones
        if start_s <= (first_s + last_s) / 2 < end_s
    )
    return Occurrence(text, phones)


def draw(utterances: list[Utterance], count: int, seed: int) -> Iterator[Window]:
    sampler, augmentation = WindowSampler(utterances, RATE_HZ, WINDOW), AugmentationConfig()
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        window = sampler.draw(rng)
        samples_N = augmented(window.samples_N, RATE_HZ, rng, augmentation)
        yield window._replace(samples_N=samples_N)


def write_pool(corpus: Path, pool: Path, count: int, seed: int) -> None:
    utterances, occurrences = numbered(read_corpus(corpus))
    pool.mkdir(parents=True, exist_ok=True)
    shape = (count, round(WINDOW.window_s * RATE_HZ))
    sound_WN = np.lib.format.open_memmap(pool / SOUND_FILE, "w+", np.int16, shape)
    with (pool / LABEL_FILE).open("w", encoding="utf-8") as labels:
        for index, window in enumerate(draw(utterances, count, seed)):
            sound_WN[index] = (window.samples_N * 32767).astype(np.int16)
            labels.write(json.dumps(label_row(window.words, occurrences)) + "\n")
    sound_WN.flush()


def label_row(words: Iterable[TimedTokens], occurrences: Sequence[Occurrence]) -> dict[str, list]:
    """Words and phones with their times in the window."""
    row: dict[str, list] = {"words": [], "phones": []}
    for word in words:
        occurrence = occurrences[word.tokens[0]]
        row["words"].append((occurrence.text, word.start_s, word.end_s))
        row["phones"] += occurrence.phones_within(word.start_s, word.end_s)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.pool")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    write_pool(arguments.corpus, arguments.pool, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
