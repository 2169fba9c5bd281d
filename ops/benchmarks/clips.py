"""Whole clips, compared with moshi and transformers: audio in, tokens out.

S clips, N samples, F frames.
"""

from functools import partial

import numpy as np
import torch

from nightscribe.benchmarks.measurements import Action, in_turns, noise
from nightscribe.benchmarks.report import Table
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.speech_to_text import FULL_SCALE
from nightscribe.model.step_runner import StepRunner
from ops.benchmarks.peers import Peers, load_peers, not_installed
from ops.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, TRANSFORMERS, Setup, cells

ROUND_STEPS = 25


def measure_clips(config: SpeechToTextConfig, setup: Setup, num_frames: int) -> Table:
    """Milliseconds per frame of one clip, for each number of clips at once."""
    peers = load_peers(config, setup)
    rows, agreements = [], []
    for num_slots in sorted(setup.num_slots):
        model = peers.runner(num_slots, ROUND_STEPS)
        length = num_frames * config.mimi.frame_samples
        samples_SN = np.stack([noise(length, seed) for seed in range(num_slots)])
        actions: dict[str, Action] = {OURS: partial(transcribe, model, samples_SN)}
        actions |= _their_actions(peers, samples_SN)
        agreements += _agreements(num_slots, actions)
        elapsed = in_turns(actions, setup.repeats, setup.device)
        rows.append((num_slots, *cells(elapsed, num_frames * num_slots)))
    dtype = str(setup.dtype).removeprefix("torch.")
    return Table(
        title="Whole clips: audio in, tokens out, per frame of one clip",
        columns=("clips", *COLUMNS),
        rows=rows,
        notes=(
            f"{dtype}, {config.language_model.num_layers} layers of width "
            f"{config.language_model.dim}; clips of {num_frames} frames. Medians of "
            f"{setup.repeats} turns. Ours is the engine over as many slots; moshi runs frame by "
            f"frame, as its own programs do; transformers is `generate`. {' '.join(agreements)}",
            *not_installed(setup),
        ),
    )


def transcribe(model: StepRunner, samples_SN: np.ndarray) -> np.ndarray:
    """Tokens SF of every clip, in order, from our engine."""
    num_frames = samples_SN.shape[1] // model.frame_samples
    streams = [Stream(index, samples_N, num_frames) for index, samples_N in enumerate(samples_SN)]
    outputs = step_engine(model, round_steps=ROUND_STEPS).run(streams)
    tokens = {one.stream.stream_id: one.tokens_T[1:] for one in outputs}
    return np.stack([tokens[index] for index in range(len(samples_SN))])


def share_of_equal(ours_SF: np.ndarray, theirs_SF: np.ndarray) -> float:
    """The share of equal tokens, over the frames that both transcribed."""
    return float((ours_SF[:, : theirs_SF.shape[1]] == theirs_SF).mean())


def _their_actions(peers: Peers, samples_SN: np.ndarray) -> dict[str, Action]:
    waveforms_SN = torch.from_numpy(samples_SN).to(peers.ours.device).float() / FULL_SCALE
    actions: dict[str, Action] = {}
    if peers.moshi is not None:
        actions[MOSHI] = partial(peers.moshi.transcribe, waveforms_SN)
    if peers.transformers is not None:
        actions[TRANSFORMERS] = partial(peers.transformers.transcribe, waveforms_SN)
    return actions


def _agreements(num_clips: int, actions: dict[str, Action]) -> list[str]:
    """How many of our tokens equal theirs: evidence that the work is the same."""
    ours_SF = np.asarray(actions[OURS]())
    theirs = {name: np.asarray(action()) for name, action in actions.items() if name != OURS}
    return [
        f"With {num_clips}, {share_of_equal(ours_SF, theirs_SF):.1%} of our tokens equal "
        f"those of {name}."
        for name, theirs_SF in theirs.items()
    ]
