"""Prompts as a model finds them: one after the other, each ended by `NOTHING_DUE`."""

# P tokens of prompts

from collections.abc import Sequence

import numpy as np

NOTHING_DUE = -1


def joined(prompts: Sequence[Sequence[int]]) -> tuple[list[int], np.ndarray]:
    """Where each prompt begins, and the tokens of all; those without one share an empty one."""
    tokens, starts = [NOTHING_DUE], []
    for prompt in prompts:
        starts.append(len(tokens) if prompt else 0)
        tokens += [*prompt, NOTHING_DUE] if prompt else []
    return starts, np.array(tokens, np.int64)


NO_PROMPTS = joined([])[1]
