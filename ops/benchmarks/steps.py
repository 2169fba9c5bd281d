"""A step of the language model, compared with moshi and transformers: codes in, tokens out.

S slots, K codebooks.
"""

from collections.abc import Callable
from functools import partial

import torch

from nightscribe.benchmarks.measurements import Action, fill_memory, in_turns, round_of
from nightscribe.benchmarks.report import Table
from nightscribe.model.config import LanguageModelConfig, SpeechToTextConfig
from ops.benchmarks.peers import Peers, load_peers, not_installed
from ops.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, TRANSFORMERS, Setup, cells


def measure_steps(config: SpeechToTextConfig, setup: Setup, history: int, num_steps: int) -> Table:
    """Milliseconds per step of streams at position `history`, for each number of slots."""
    peers = load_peers(config, setup)
    rows = []
    for num_slots in sorted(setup.num_slots):
        model = peers.runner(num_slots, num_steps)
        fill_memory(model)
        actions = _their_actions(peers, num_slots, history, num_steps)
        actions[OURS] = round_of(model, num_slots, history, num_steps)
        elapsed = in_turns(actions, setup.repeats, setup.device)
        rows.append((num_slots, *cells(elapsed, num_steps)))
    return Table(
        title="A step: codes in, tokens out",
        columns=("slots", *COLUMNS),
        rows=rows,
        notes=(*_notes(config.language_model, setup, history, num_steps), *not_installed(setup)),
    )


def _their_actions(peers: Peers, num_slots: int, history: int, num_steps: int) -> dict[str, Action]:
    config, device = peers.ours.language_model.config, peers.ours.device
    shape_TSK = num_steps, num_slots, config.num_codebooks
    codes_TSK = torch.randint(config.audio_card, shape_TSK, device=device)
    actions: dict[str, Action] = {}
    if peers.moshi is not None:
        peers.moshi.begin(num_slots)
        peers.moshi.fill_cache()
        actions[MOSHI] = partial(_each, peers.moshi.step, codes_TSK)
    if peers.transformers is not None:
        cache = peers.transformers.cache_at(num_slots, history)
        text_S = codes_TSK.new_full((num_slots,), config.padding_id)
        step = partial(peers.transformers.step, text_S=text_S, cache=cache)
        actions[TRANSFORMERS] = partial(_each, step, codes_TSK)
    return actions


def _each(step: Callable[[torch.Tensor], object], codes_TSK: torch.Tensor) -> None:
    for codes_SK in codes_TSK:
        step(codes_SK)


def _notes(
    config: LanguageModelConfig, setup: Setup, history: int, num_steps: int
) -> tuple[str, ...]:
    dtype = str(setup.dtype).removeprefix("torch.")
    return (
        f"{dtype}, {config.num_layers} layers of width {config.dim}, window {config.context}; "
        f"streams at frame {history}. Medians of {setup.repeats} turns of "
        f"{num_steps} steps. Ours is the engine's whole step, with confidences; moshi is "
        "`LMGen.step`, which reads its whole window whatever it holds; transformers is a call "
        "of its model, whose cache begins at that length.",
    )
