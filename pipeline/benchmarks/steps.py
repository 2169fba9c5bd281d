"""A step beside the others': codes in, tokens out.

S slots, K codebooks.
"""

from collections.abc import Callable
from functools import partial

import torch

from nightscribe.benchmarks.contest import Contest, contest, missing
from nightscribe.benchmarks.rounds import a_round, fill_memory
from nightscribe.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, TRANSFORMERS, Terms, cells
from nightscribe.benchmarks.table import Table
from nightscribe.benchmarks.timing import Action, in_turns
from nightscribe.model.config import LanguageModelConfig, SpeechToTextConfig


def measure_steps(config: SpeechToTextConfig, terms: Terms, history: int, num_steps: int) -> Table:
    """Milliseconds a step of streams that have heard `history` frames, for each number of slots."""
    held = contest(config, terms)
    rows = []
    for num_slots in sorted(terms.num_slots):
        model = held.slotted(num_slots, num_steps)
        fill_memory(model)
        actions = _their_actions(held, num_slots, history, num_steps)
        actions[OURS] = a_round(model, num_slots, history, num_steps)
        spent = in_turns(actions, terms.repeats, terms.device)
        rows.append((num_slots, *cells(spent, num_steps)))
    return Table(
        title="A step: codes in, tokens out",
        columns=("slots", *COLUMNS),
        rows=rows,
        notes=(*_notes(config.language_model, terms, history, num_steps), *missing(terms)),
    )


def _their_actions(
    held: Contest, num_slots: int, history: int, num_steps: int
) -> dict[str, Action]:
    config, device = held.ours.language_model.config, held.ours.device
    shape_TSK = num_steps, num_slots, config.num_codebooks
    codes_TSK = torch.randint(config.audio_card, shape_TSK, device=device)
    actions: dict[str, Action] = {}
    if held.moshi is not None:
        held.moshi.begin(num_slots)
        held.moshi.fill_rings()
        actions[MOSHI] = partial(_each, held.moshi.step, codes_TSK)
    if held.transformers is not None:
        cache = held.transformers.memory_of(num_slots, history)
        text_S = codes_TSK.new_full((num_slots,), config.padding_id)
        step = partial(held.transformers.step, text_S=text_S, cache=cache)
        actions[TRANSFORMERS] = partial(_each, step, codes_TSK)
    return actions


def _each(step: Callable[[torch.Tensor], object], codes_TSK: torch.Tensor) -> None:
    for codes_SK in codes_TSK:
        step(codes_SK)


def _notes(
    config: LanguageModelConfig, terms: Terms, history: int, num_steps: int
) -> tuple[str, ...]:
    dtype = str(terms.dtype).removeprefix("torch.")
    return (
        f"{dtype}, {config.num_layers} layers of width {config.dim}, window {config.context}; "
        f"streams that have heard {history} frames. Medians of {terms.repeats} turns of "
        f"{num_steps} steps. Ours is the engine's whole step, with confidences; moshi is "
        "`LMGen.step`, which reads its whole window whatever it holds; transformers is a call "
        "of its model, whose cache begins at that length.",
    )
