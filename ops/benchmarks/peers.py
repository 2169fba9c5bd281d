"""Nightscribe, moshi and transformers with the same weights, ready to be timed side by side."""

from dataclasses import dataclass
from importlib.util import find_spec

from nightscribe.benchmarks.random_weights import random_speech
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import StepRunner
from ops.benchmarks.moshi_peer import MoshiPeer
from ops.benchmarks.side_by_side import MOSHI, TRANSFORMERS, Setup
from ops.benchmarks.transformers_peer import TransformersPeer


@dataclass(frozen=True, slots=True)
class Peers:
    """The implementations that are compared; None: not installed or not requested."""

    ours: SpeechToText
    moshi: MoshiPeer | None
    transformers: TransformersPeer | None

    def runner(self, num_slots: int, round_steps: int) -> StepRunner:
        """Our model for so many slots; the first call packs its matrices.

        Call after the peers have copied its weights, with fewer slots before more.
        """
        return StepRunner(self.ours, num_slots, round_steps)


def load_peers(config: SpeechToTextConfig, setup: Setup) -> Peers:
    """The requested implementations that are installed, with one set of random weights."""
    present = [peer for peer in setup.peers if find_spec(peer)]
    ours = random_speech(config, setup.device, setup.dtype)
    transformers = TransformersPeer.like(ours) if TRANSFORMERS in present else None
    return Peers(ours, MoshiPeer.like(ours) if MOSHI in present else None, transformers)


def not_installed(setup: Setup) -> tuple[str, ...]:
    """One sentence for each requested implementation that is not installed."""
    return tuple(
        f"{peer} is not installed: not measured." for peer in setup.peers if not find_spec(peer)
    )
