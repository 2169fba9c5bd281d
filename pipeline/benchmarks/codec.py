"""Mimi beside the others': sound in, codes out."""

from functools import partial

import torch

from nightscribe.benchmarks.contest import contest, missing
from nightscribe.benchmarks.rounds import one_chunk
from nightscribe.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, Terms, cells
from nightscribe.benchmarks.table import Table
from nightscribe.benchmarks.timing import Action, in_turns
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.speech_to_text import FULL_SCALE


def measure_codec(config: SpeechToTextConfig, terms: Terms, num_frames: int) -> Table:
    """Milliseconds a frame of one stream, for each number of streams side by side."""
    held = contest(config, terms)
    model = held.slotted(max(terms.num_slots), num_frames)
    rows = []
    for num_slots in terms.num_slots:
        chunk = one_chunk(model, num_frames, num_slots)
        actions: dict[str, Action] = {OURS: partial(model.encode, chunk)}
        if held.moshi is not None:
            pieces = [torch.from_numpy(piece) for piece in chunk.pieces]
            samples_SN = torch.stack(pieces).to(terms.device).float() / FULL_SCALE
            held.moshi.begin(num_slots)
            actions[MOSHI] = partial(held.moshi.encode, samples_SN)
        spent = in_turns(actions, terms.repeats, terms.device)
        rows.append((num_slots, *cells(spent, num_frames * num_slots)))
    return Table(
        title="Mimi: sound in, codes out, for a frame of one stream",
        columns=("streams", *COLUMNS),
        rows=rows,
        notes=(
            f"fp32, {num_frames} frames of each stream. Medians of {terms.repeats} turns. Ours "
            "encodes them at once, as the engine does; moshi frame by frame, as its programs do.",
            *missing(terms),
        ),
    )
