"""What a bias towards terms finds, and what it hears where nothing was said.

    python -m ops.benchmarks.terms [STRENGTH ...]

The samples of `tiny` with noise, so that words get lost. The terms are the words of the samples
that occur once, and as many words of the vocabulary that nobody says. Recall is the share of the
spoken terms that are in the transcript; a false alarm is a term in a transcript that has it more
often than the reference.
"""

import json
import sys
from collections import Counter
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
SNRS_DB = (6.0, 3.0)
NUM_SEEDS = 2
STRENGTHS = (0.0, 0.5, 1.0, 2.0)


def main() -> None:
    strengths = [float(word) for word in sys.argv[1:]] or STRENGTHS
    texts = json.loads((ROOT / "samples/texts.json").read_text())
    counts = Counter(word for text in texts.values() for word in text.split())
    spoken = sorted(word for word, count in counts.items() if count == 1)
    vocabulary = (ROOT / "models/tiny/vocabulary.txt").read_text().split()
    unspoken = [word for word in vocabulary if word not in counts]
    random = np.random.default_rng(0)
    unspoken = sorted(random.choice(unspoken, min(len(spoken), len(unspoken)), replace=False))
    clips = {
        f"{name}/{snr:g}/{seed}": noisy(name, snr, seed)
        for name in texts
        for snr in SNRS_DB
        for seed in range(NUM_SEEDS)
    }
    sys.stdout.write(
        f"{len(clips)} clips, {len(spoken)} spoken terms, {len(unspoken)} unspoken ones\n\n"
        "| strength | recall | false alarms per 100 words | word errors per 100 words |\n"
        "|--:|--:|--:|--:|\n"
    )
    for strength in strengths:
        terms = Terms((*spoken, *unspoken), strength)
        sys.stdout.write(row(strength, terms, clips, texts) + "\n")
        sys.stdout.flush()


def row(strength: float, terms: Terms, clips: dict[str, np.ndarray], texts: dict[str, str]) -> str:
    engine = EngineConfig(device="cpu", dtype="float32", num_slots=16, frames_per_pass=1)
    transcriber = Transcriber.load(
        ModelConfig(name="tiny", checkpoint=str(ROOT / "models/tiny")), engine, terms=terms
    )
    found = spoken = false_alarms = num_words = num_errors = 0
    given = [Clip(name, samples_N) for name, samples_N in clips.items()]
    for one in transcriber.transcribe(given):
        said = texts[one.clip_id.split("/")[0]].split()
        heard = [word.text for word in one.words]
        num_words += len(said)
        num_errors += distance(said, heard)
        said_of, heard_of = Counter(said), Counter(heard)
        for term in terms.texts:
            spoken += said_of[term]
            found += min(said_of[term], heard_of[term])
            false_alarms += max(heard_of[term] - said_of[term], 0)
    return (
        f"| {strength:g} | {found / spoken:.1%} | {100 * false_alarms / num_words:.1f} "
        f"| {100 * num_errors / num_words:.1f} |"
    )


def noisy(name: str, snr_db: float, seed: int) -> np.ndarray:
    samples_N, _ = read_waveform(ROOT / "samples" / name, DecodeConfig(), RATE_HZ)
    level = np.sqrt(np.mean(samples_N.astype(np.float64) ** 2)) / 10 ** (snr_db / 20)
    noise_N = np.random.default_rng(seed).normal(0.0, level, len(samples_N))
    return np.clip(samples_N + noise_N, -32768, 32767).astype(np.int16)


def distance(said: list[str], heard: list[str]) -> int:
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
