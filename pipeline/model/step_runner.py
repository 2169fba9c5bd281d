"""A checkpoint whose slots make a step after the other.

Satisfies the engine's `StepModel` by shape.

S slots, T steps of a round, K codebooks, V text tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.attention import Reach
from nightscribe.model.cuda_runtime import Homeward, Kind
from nightscribe.model.model_runner import USUAL, Housing, SlottedModel
from nightscribe.model.sampling import draw_each, hold, probabilities_of
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_tables import Answers, Codes, Heard, Steps, Tables


class SteppingModel(SlottedModel[Tables]):
    """Every slot hears a frame and says a token, `round_steps` times a round."""

    def __init__(
        self, speech: SpeechToText, num_slots: int, round_steps: int, housing: Housing = USUAL
    ) -> None:
        super().__init__(speech, num_slots, round_steps, 1, housing)
        num_codebooks = self._language_model.config.num_codebooks
        self._tables = Tables.empty(
            (round_steps, num_slots), num_codebooks, self.num_heads, self.device
        )
        self._record()

    @torch.inference_mode()
    def run(self, steps: Steps, codes: Sequence[Codes]) -> Homeward[Answers]:
        """Queue every step of a round."""
        with self._queues.on_device():
            for chunk_codes in codes:
                self._queues.receive(chunk_codes.codes_JFK, chunk_codes.done)
            self._tables.lay(steps, codes, self._queues.upload)
            kind = Kind(steps.num_slots, steps.is_plain)
            for reach_S in np.minimum(steps.positions_TS + 1, self._cache.capacity).tolist():
                self._queues.run(self._step, kind, tuple(reach_S))
            copies = self._tables.said(steps.num_steps, steps.num_slots)
            return self._queues.download(copies, Answers)

    def _step(self, kind: Kind, reach: Reach) -> None:
        """Every slot hears a frame and says a token; where, the tables' own counter tells."""
        heard, config = self._tables.heard(kind.num_slots), self._language_model.config
        is_fresh_S = heard.positions_S == 0
        last_tokens_S = self._tables.last_tokens_S[: kind.num_slots]
        codes_SK = heard.codes_SK.masked_fill(is_fresh_S[:, None], config.audio_card)
        text_S = last_tokens_S.masked_fill(is_fresh_S, config.text_start_id)
        cache = self._cache.first(kind.num_slots)
        cache.next_positions_B.copy_(heard.positions_S)
        prediction = self._language_model.extend(
            codes_SK[:, None], text_S[:, None], cache, is_fresh_S, reach
        )
        logits_SV = prediction.logits_STV[:, 0]
        last_tokens_S.copy_(self._chosen(logits_SV, heard, kind))
        extra_STHA = prediction.extra_STHA
        heads_SH = None if extra_STHA is None else extra_STHA[:, 0, :, 0]
        self._tables.write(last_tokens_S, probabilities_of(last_tokens_S, logits_SV), heads_SH)

    def _chosen(self, logits_SV: Tensor, heard: Heard, kind: Kind) -> Tensor:
        """What every slot says: forced, held to its prompt, drawn or simply the likeliest."""
        num_said_S = self._tables.num_said_S[: kind.num_slots]
        num_said_S.masked_fill_(heard.positions_S == 0, 0)
        if kind.is_plain:
            return _unless_forced(logits_SV.argmax(dim=-1), heard.forced_S)
        manner = self._tables.manner(kind.num_slots)
        due_S = self._tables.prompt_tokens_P.index_select(0, manner.prompts_S + num_said_S)
        held_SV = hold(logits_SV, due_S, self._silent_tokens)
        drawn_S = draw_each(held_SV, manner.temperatures_S, manner.seeds_S, heard.positions_S)
        said_S = _unless_forced(drawn_S, heard.forced_S)
        num_said_S += said_S == due_S
        return said_S


def _unless_forced(chosen_S: Tensor, forced_S: Tensor) -> Tensor:
    return torch.where(forced_S < 0, chosen_S, forced_S)
