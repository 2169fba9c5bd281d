"""The cost of a pass over several frames and of a step of one frame, every KV cache full.

How many frames of a pass are accepted depends on the speech, so random weights cannot show it; this
measures how many must be accepted for a pass to be faster.

S slots, W columns of a round.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from nightscribe.benchmarks.measurements import one_chunk, timed
from nightscribe.engine.interface import SpeculativeInput
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.speech_to_text import SpeechToText

ROUND_STEPS = 25
FRAMES = (2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCost:
    """A pass over `num_frames` frames of `num_slots` slots."""

    num_frames: int
    num_slots: int
    pass_s: float
    step_s: float  # of one frame, over the same slots

    @property
    def frames_to_gain(self) -> float:
        """Accepted frames per pass, on average, above which it is faster than single steps."""
        return self.pass_s / self.step_s


def measure_pass(
    speech: SpeechToText, num_slots: int, num_frames: int, step_s: float, num_rounds: int
) -> PassCost:
    """The median of `num_rounds` rounds, after a warm-up."""
    num_passes = -(-ROUND_STEPS // num_frames)
    model = SpeculativeRunner(speech, num_slots, num_frames, num_passes)
    run = _round(model, num_slots, 2 * speech.config.language_model.context)
    run()
    elapsed = [timed(run, speech.device).wall_s / num_passes for _ in range(num_rounds)]
    return PassCost(
        num_frames=num_frames, num_slots=num_slots, pass_s=median(elapsed), step_s=step_s
    )


def _round(model: SpeculativeRunner, num_slots: int, position: int) -> Callable[[], object]:
    """A round in which every slot is at the end of its stream.

    A pass costs the same whether its frames count or not, so every round sees full KV caches.
    """
    width = model.frames_per_pass * model.num_passes
    drafts = replace(
        SpeculativeInput.idle(num_slots, (model.rounds_ahead + 2) * width),
        **dict.fromkeys(
            ("starts_S", "ends_S", "bases_S", "max_positions_S"),
            np.full(num_slots, position, np.int64),
        ),
    )
    codes = model.encode(one_chunk(model, num_frames=1))
    return lambda: model.run(drafts, codes).wait()
