"""What a bias towards terms finds, and what it hears where nothing was said.

    python -m ops.benchmarks.terms [STRENGTH ...]

The utterances of the ten minutes that ship with `tiny`, with noise, so that words get lost. The
first half is the development set, on which a strength is chosen, the second half the test set.
Every utterance has terms of its own: its words that occur once or twice in its half, and ten words
of the vocabulary that nobody says in it. Recall is the share of the spoken terms that are in the
transcript; a false alarm is a term in a transcript that has it more often than the reference.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.terms_config import Terms
from nightscribe.transcription.transcriber import Clip, Transcriber

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 24_000
# A longer pause ends an utterance; half of a shorter one belongs to either side.
PAUSE_S = 0.6
MARGIN_S = 0.3
SNR_DB = 3.0
MAX_COUNT = 2
NUM_UNSPOKEN = 10
STRENGTHS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Utterance:
    """A stretch of sound without a pause, and what is said in it."""

    words: tuple[str, ...]
    samples_N: np.ndarray
    terms: tuple[str, ...] = ()


def main() -> None:
    strengths = [float(word) for word in sys.argv[1:]] or STRENGTHS
    both = halves()
    for name, half in both.items():
        num_words = sum(len(one.words) for one in half)
        sys.stdout.write(f"{name}: {len(half)} utterances, {num_words} words\n")
    sys.stdout.write(
        "\n| set | strength | recall | false alarms per 100 words | word errors per 100 words |\n"
        "|---|--:|--:|--:|--:|\n"
    )
    for name, half in both.items():
        for strength in strengths:
            sys.stdout.write(row(name, half, strength) + "\n")
            sys.stdout.flush()


def halves() -> dict[str, list[Utterance]]:
    found = list(utterances())
    middle = len(found) // 2
    sets = {"development": found[:middle], "test": found[middle:]}
    return {name: list(with_terms(half)) for name, half in sets.items()}


def with_terms(half: Sequence[Utterance]) -> Iterator[Utterance]:
    vocabulary = (ROOT / "models/tiny/vocabulary.txt").read_text().split()
    counts = Counter(word for one in half for word in one.words)
    random = np.random.default_rng(0)
    for one in half:
        spoken = [word for word in dict.fromkeys(one.words) if counts[word] <= MAX_COUNT]
        others = [word for word in vocabulary if word not in one.words]
        unspoken = random.choice(others, NUM_UNSPOKEN, replace=False).tolist()
        yield replace(one, terms=(*spoken, *unspoken))


def utterances() -> Iterator[Utterance]:
    whole_N, _ = read_waveform(ROOT / "samples/ten-minutes.opus", DecodeConfig(), RATE_HZ)
    words = json.loads((ROOT / "samples/ten-minutes.json").read_text())
    gaps_s = [after["start_s"] - before["end_s"] for before, after in pairwise(words)]
    ends = [number + 1 for number, gap_s in enumerate(gaps_s) if gap_s > PAUSE_S]
    for number, (first, end) in enumerate(zip([0, *ends], [*ends, len(words)], strict=True)):
        some = words[first:end]
        start_s, end_s = some[0]["start_s"] - MARGIN_S, some[-1]["end_s"] + MARGIN_S
        samples_N = whole_N[max(round(start_s * RATE_HZ), 0) : round(end_s * RATE_HZ)]
        yield Utterance(tuple(word["text"] for word in some), noisy(samples_N, number))


def noisy(samples_N: np.ndarray, seed: int) -> np.ndarray:
    level = np.sqrt(np.mean(samples_N.astype(np.float64) ** 2)) / 10 ** (SNR_DB / 20)
    noise_N = np.random.default_rng(seed).normal(0.0, level, len(samples_N))
    return np.clip(samples_N + noise_N, -32768, 32767).astype(np.int16)


def row(name: str, half: Sequence[Utterance], strength: float) -> str:
    engine = EngineConfig(device="cpu", dtype="float32", num_slots=16, frames_per_pass=1)
    model = ModelConfig(name="tiny", checkpoint=str(ROOT / "models/tiny"))
    transcriber = Transcriber.load(model, engine, terms=Terms((), strength, are_in_clips=True))
    found = spoken = false_alarms = num_words = num_errors = 0
    given = [Clip(str(n), one.samples_N, terms=one.terms) for n, one in enumerate(half)]
    for one in transcriber.transcribe(given):
        utterance = half[int(one.clip_id)]
        heard = [word.text for word in one.words]
        num_words += len(utterance.words)
        num_errors += distance(utterance.words, heard)
        said_of, heard_of = Counter(utterance.words), Counter(heard)
        for term in utterance.terms:
            spoken += said_of[term]
            found += min(said_of[term], heard_of[term])
            false_alarms += max(heard_of[term] - said_of[term], 0)
    return (
        f"| {name} | {strength:g} | {found / spoken:.1%} of {spoken} "
        f"| {100 * false_alarms / num_words:.1f} | {100 * num_errors / num_words:.1f} |"
    )


def distance(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words that were replaced, left out or added."""
    costs = list(range(len(heard) + 1))
    for number, word in enumerate(said, start=1):
        before, costs[0] = costs[0], number
        for place, other in enumerate(heard, start=1):
            cost = min(costs[place] + 1, costs[place - 1] + 1, before + (word != other))
            before, costs[place] = costs[place], cost
    return costs[-1]


if __name__ == "__main__":
    main()
