"""Mimi, compared with moshi's: audio in, codes out."""

from functools import partial

import torch

from nightscribe.benchmarks.measurements import Action, in_turns, one_chunk
from nightscribe.benchmarks.report import Table
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.speech_to_text import FULL_SCALE
from ops.benchmarks.peers import load_peers, not_installed
from ops.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, Setup, cells


def measure_codec(config: SpeechToTextConfig, setup: Setup, num_frames: int) -> Table:
    """Milliseconds per frame of one stream, for each number of streams at once."""
    peers = load_peers(config, setup)
    model = peers.runner(max(setup.num_slots), num_frames)
    rows = []
    for num_slots in setup.num_slots:
        chunk = one_chunk(model, num_frames, num_slots)
        actions: dict[str, Action] = {OURS: partial(model.encode, chunk)}
        if peers.moshi is not None:
            pieces = [torch.from_numpy(piece) for piece in chunk.samples]
            samples_SN = torch.stack(pieces).to(setup.device).float() / FULL_SCALE
            peers.moshi.begin(num_slots)
            actions[MOSHI] = partial(peers.moshi.encode, samples_SN)
        elapsed = in_turns(actions, setup.repeats, setup.device)
        rows.append((num_slots, *cells(elapsed, num_frames * num_slots)))
    return Table(
        title="Mimi: audio in, codes out, per frame of one stream",
        columns=("streams", *COLUMNS),
        rows=rows,
        notes=(
            f"fp32, {num_frames} frames of each stream. Medians of {setup.repeats} turns. Ours "
            "encodes them at once, as the engine does; moshi frame by frame, as its programs do.",
            *not_installed(setup),
        ),
    )
