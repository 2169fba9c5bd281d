"""Weights of text-to-speech models that every machine computes alike; texts are in `spoken`."""

from typing import Any

from torch import Tensor

from nightscribe.model.tts.config import TextToSpeechConfig
from tests.goldens.inputs import weight
from tests.model.tts import peer as peers

NUM_HEARD_FRAMES = 24
MIMI = peers.CROSS.mimi
CONFIGS: dict[str, TextToSpeechConfig] = {
    "cross": peers.CROSS,
    "prompt": peers.PROMPT,
    "guided": peers.GUIDED,
}
GUIDANCE = {"cross": 1.0, "prompt": 2.5, "guided": 2.5}
# So that models begin some words before they are forced to.
NEW_WORD_SCALES = {"cross": -2.5, "prompt": 5.0, "guided": 2.0}


def speech_weight(kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor of this native name in a kind of model, the same on every machine."""
    drawn: Any = weight(f"{kind} {name}", shape)
    if name.startswith("linears"):
        return 5 * drawn
    if name == "text_linear.weight":
        drawn[0] *= NEW_WORD_SCALES[kind]
    return drawn


def heard_frames(frames_SXF: Tensor) -> Tensor:
    """Codes SKF of the first text's audio: beyond the codec's window of ten frames."""
    first = CONFIGS["cross"].audio_delay_steps
    return frames_SXF[:1, 1:, first : first + NUM_HEARD_FRAMES].long()
