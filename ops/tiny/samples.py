"""Makes the sample recordings that ship, from voices outside the small model's training data.

    python -m ops.tiny.samples HELD_OUT_CORPUS HUMAN_FOLDER samples

The ten minutes are composed: two voices in turn, pauses of all lengths, quiet noise of changing
level, beeps, and digital silence. `ten-minutes.json` has the time of every word, known from the
composition, for tests of cutting, stitching and timing.

N samples.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from nightscribe.training.augmentation import at_level, beeps, coloured
from ops.tiny.corpus import RATE_HZ, Spoken, read_corpus

DURATION_S = 600
VOICES = ("af_bella", "am_fenrir")
SPEECH_DB, NOISE_DB = -22.0, -52.0
BITRATE = "16k"
CLIPS = {
    "bella": "af_bella",
    "fenrir": "am_fenrir",
    "alice": "bf_alice",
    "daniel": "bm_daniel",
}
MIN_CLIP_WORDS = 5


def compose(spoken: list[Spoken], rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """Ten minutes, and their words: text, voice, start_s, end_s."""
    sound_N = np.zeros(DURATION_S * RATE_HZ, dtype=np.float32)
    words: list[dict] = []
    place, turns = 2 * RATE_HZ, list(_turns(spoken, rng))
    pauses_s = _pauses_s([len(u.samples_N) / RATE_HZ for u in turns], rng)
    for utterance, pause_s in zip(turns, pauses_s, strict=True):
        voice_N = at_level(utterance.samples_N.astype(np.float32), SPEECH_DB)
        sound_N[place : place + len(voice_N)] += voice_N
        words += [_placed(word, utterance.voice, place / RATE_HZ) for word in utterance.words]
        place += len(voice_N) + int(pause_s * RATE_HZ)
    return sound_N + _noises(len(sound_N), words, rng), words


def _turns(spoken: list[Spoken], rng: np.random.Generator) -> Iterator[Spoken]:
    """The voices in turn, a few utterances each time."""
    waiting = {voice: [u for u in spoken if u.voice == voice] for voice in VOICES}
    while any(waiting.values()):
        for voice in VOICES:
            for _ in range(rng.integers(1, 5)):
                if waiting[voice]:
                    yield waiting[voice].pop(0)


def _pauses_s(lengths_s: list[float], rng: np.random.Generator) -> list[float]:
    """Drawn from breaths to half minutes, then scaled so that all end two seconds early."""
    drawn_s = rng.lognormal(0.0, 0.9, len(lengths_s))
    drawn_s[rng.choice(len(lengths_s), 3, replace=False)] += 15
    left_s = DURATION_S - 4 - sum(lengths_s)
    assert left_s > 0, "more speech than fits"
    return list(drawn_s * left_s / drawn_s.sum())


def _placed(word, voice: str, from_s: float) -> dict:
    start_s, end_s = (round(from_s + s, 3) for s in (word.start_s, word.end_s))
    return {"text": word.text, "voice": voice, "start_s": start_s, "end_s": end_s}


def _noises(num_samples: int, words: list[dict], rng: np.random.Generator) -> np.ndarray:
    """A quiet room in every other minute, and beeps where nobody speaks."""
    minute = 60 * RATE_HZ
    noise_N = at_level(coloured(num_samples, RATE_HZ, rng).astype(np.float32), NOISE_DB)
    noise_N *= (np.arange(num_samples) // minute % 2).astype(np.float32)
    gaps = pairwise(words)
    long_gaps = [(a["end_s"], b["start_s"]) for a, b in gaps if b["start_s"] - a["end_s"] > 8]
    for start_s, end_s in long_gaps:
        first, length = int((start_s + 3) * RATE_HZ), int(min(end_s - start_s - 6, 4) * RATE_HZ)
        noise_N[first : first + length] += at_level(beeps(length, RATE_HZ, rng), -34.0)
    return noise_N


def write_opus(path: Path, sound_N: np.ndarray) -> None:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    source = ["-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "pipe:0"]
    target = ["-c:a", "libopus", "-b:a", BITRATE, "-bitexact", str(path)]
    pcm = (np.clip(sound_N, -1, 1) * 32767).astype(np.int16).tobytes()
    command = [ffmpeg, "-loglevel", "error", "-y", *source, *target]
    subprocess.run(command, input=pcm, check=True)


def write_samples(held_out: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    spoken = list(read_corpus(held_out))
    texts = {}
    for name, voice in CLIPS.items():
        clip = next(u for u in spoken if u.voice == voice and len(u.words) >= MIN_CLIP_WORDS)
        sound_N = at_level(clip.samples_N.astype(np.float32), SPEECH_DB)
        write_opus(folder / f"{name}.opus", sound_N)
        texts[f"{name}.opus"] = clip.text
    (folder / "texts.json").write_text(json.dumps(texts, indent=2) + "\n", encoding="utf-8")
    sound_N, words = compose(spoken, np.random.default_rng(6))
    write_opus(folder / "ten-minutes.opus", sound_N)
    lines = ",\n".join(json.dumps(word) for word in words)
    (folder / "ten-minutes.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write_samples(*map(Path, sys.argv[1:]))
