"""Spoils what the model hears of its own text, so that it learns to trust its ears.

A model trained on perfect text alone learns the sentences by heart: at inference one wrong word
then draws the next ones after it.

S windows, P positions.
"""

from dataclasses import dataclass, field

import numpy as np

from nightscribe.training.learning_rate import check_rates


@dataclass(kw_only=True, slots=True)
class CorruptionConfig:
    word_rate: float = field(
        default=0.3, metadata={"help": "share of heard text tokens replaced, in spoilt windows"}
    )
    window_rate: float = field(
        default=0.8, metadata={"help": "share of windows that are spoilt at all"}
    )

    def __post_init__(self) -> None:
        check_rates(self)


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
