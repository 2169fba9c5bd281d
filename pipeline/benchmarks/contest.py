"""Our model and the others' with the same weights, ready to be timed side by side."""

from dataclasses import dataclass
from importlib.util import find_spec

from nightscribe.benchmarks.moshi_peer import MoshiPeer
from nightscribe.benchmarks.random_weights import random_speech
from nightscribe.benchmarks.side_by_side import MOSHI, TRANSFORMERS, Terms
from nightscribe.benchmarks.transformers_peer import TransformersPeer
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import SteppingModel


@dataclass(frozen=True, slots=True)
class Contest:
    """Who takes part; None is not installed or was not asked for."""

    ours: SpeechToText
    moshi: MoshiPeer | None
    transformers: TransformersPeer | None

    def slotted(self, num_slots: int, round_steps: int) -> SteppingModel:
        """Ours at work, its matrices packed for so many rows or, if they are packed, as they are.

        Call when the others have its weights, and for fewer slots before more.
        """
        return SteppingModel(self.ours, num_slots, round_steps)


def contest(config: SpeechToTextConfig, terms: Terms) -> Contest:
    """Everyone who was asked for and is installed, with one set of random weights."""
    present = [peer for peer in terms.peers if find_spec(peer)]
    ours = random_speech(config, terms.device, terms.dtype)
    transformers = TransformersPeer.like(ours) if TRANSFORMERS in present else None
    return Contest(ours, MoshiPeer.like(ours) if MOSHI in present else None, transformers)


def missing(terms: Terms) -> tuple[str, ...]:
    """Who was asked for and is not installed, said in a sentence each."""
    return tuple(
        f"{peer} is not installed: not measured." for peer in terms.peers if not find_spec(peer)
    )
