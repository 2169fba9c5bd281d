"""Spoils what the model hears of its own text, so that it learns to trust its ears.

A model trained on perfect text alone learns the sentences by heart: at inference one wrong word
then draws the next ones after it.

S windows, P positions.
"""

from dataclasses import dataclass

import numpy as np

from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class CorruptionConfig:
    """How the text tokens that the model reads are corrupted."""

    word_rate: float = option(
        0.3, "share of text tokens replaced in a corrupted window", minimum=0, maximum=1
    )
    window_rate: float = option(0.8, "share of windows that are corrupted", minimum=0, maximum=1)

    def __post_init__(self) -> None:
        check_options(self, "corruption")


def corrupted(
    heard_SP: np.ndarray,
    silent_ids: tuple[int, ...],
    replacements: np.ndarray,
    rng: np.random.Generator,
    config: CorruptionConfig,
) -> np.ndarray:
    """Replace text tokens by others or by padding; the first position, the start id, stays."""
    padding_id = silent_ids[0]
    is_spoilt_S1 = rng.random((len(heard_SP), 1)) < config.window_rate
    is_hit_SP = is_spoilt_S1 & (rng.random(heard_SP.shape) < config.word_rate)
    is_hit_SP &= ~np.isin(heard_SP, silent_ids)
    is_hit_SP[:, 0] = False
    others_SP = rng.choice(replacements, heard_SP.shape)
    others_SP = np.where(rng.random(heard_SP.shape) < 0.5, others_SP, padding_id)
    return np.where(is_hit_SP, others_SP, heard_SP)
