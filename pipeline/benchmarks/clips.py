"""Whole clips beside the others': sound in, tokens out.

S clips, N samples, F frames.
"""

from functools import partial

import numpy as np
import torch

from nightscribe.benchmarks.contest import Contest, contest, missing
from nightscribe.benchmarks.rounds import noise
from nightscribe.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, TRANSFORMERS, Terms, cells
from nightscribe.benchmarks.table import Table
from nightscribe.benchmarks.timing import Action, in_turns
from nightscribe.engine.stepping import stepping_engine
from nightscribe.engine.stream import Stream
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.speech_to_text import FULL_SCALE
from nightscribe.model.step_runner import SteppingModel

ROUND_STEPS = 25


def measure_clips(config: SpeechToTextConfig, terms: Terms, num_frames: int) -> Table:
    """Milliseconds a frame of one clip, of `num_frames` each, for each number of clips at once."""
    held = contest(config, terms)
    rows, agreements = [], []
    for num_slots in sorted(terms.num_slots):
        model = held.slotted(num_slots, ROUND_STEPS)
        length = num_frames * config.mimi.frame_samples
        samples_SN = np.stack([noise(length, seed) for seed in range(num_slots)])
        actions: dict[str, Action] = {OURS: partial(hear, model, samples_SN)}
        actions |= _their_actions(held, samples_SN)
        agreements += _agreements(num_slots, actions)
        spent = in_turns(actions, terms.repeats, terms.device)
        rows.append((num_slots, *cells(spent, num_frames * num_slots)))
    dtype = str(terms.dtype).removeprefix("torch.")
    return Table(
        title="Whole clips: sound in, tokens out, for a frame of one clip",
        columns=("clips", *COLUMNS),
        rows=rows,
        notes=(
            f"{dtype}, {config.language_model.num_layers} layers of width "
            f"{config.language_model.dim}; clips of {num_frames} frames. Medians of "
            f"{terms.repeats} turns. Ours is the engine over as many slots; moshi hears frame by "
            f"frame, as its programs do; transformers is `generate`. {' '.join(agreements)}",
            *missing(terms),
        ),
    )


def hear(model: SteppingModel, samples_SN: np.ndarray) -> np.ndarray:
    """Tokens SF of every clip, in order, by our engine."""
    num_frames = samples_SN.shape[1] // model.frame_samples
    streams = [Stream(index, samples_N, num_frames) for index, samples_N in enumerate(samples_SN)]
    heard = stepping_engine(model, round_steps=ROUND_STEPS).hear(streams)
    tokens = {said.stream.stream_id: said.tokens_T[1:] for said in heard}
    return np.stack([tokens[index] for index in range(len(samples_SN))])


def share_of_same(ours_SF: np.ndarray, theirs_SF: np.ndarray) -> float:
    """Of the frames that both answered."""
    return float((ours_SF[:, : theirs_SF.shape[1]] == theirs_SF).mean())


def _their_actions(held: Contest, samples_SN: np.ndarray) -> dict[str, Action]:
    waveforms_SN = torch.from_numpy(samples_SN).to(held.ours.device).float() / FULL_SCALE
    actions: dict[str, Action] = {}
    if held.moshi is not None:
        actions[MOSHI] = partial(held.moshi.hear, waveforms_SN)
    if held.transformers is not None:
        actions[TRANSFORMERS] = partial(held.transformers.hear, waveforms_SN)
    return actions


def _agreements(num_clips: int, actions: dict[str, Action]) -> list[str]:
    """How many of our tokens are theirs: that the work is the same."""
    ours_SF = np.asarray(actions[OURS]())
    said = {name: np.asarray(action()) for name, action in actions.items() if name != OURS}
    return [
        f"With {num_clips}, {share_of_same(ours_SF, theirs_SF):.1%} of our tokens are "
        f"those of {name}."
        for name, theirs_SF in said.items()
    ]
