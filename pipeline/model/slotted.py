"""A checkpoint with slots: many streams side by side, each at its own position.

Satisfies the engine's `StepModel` by shape. A round of steps reads everything it needs from
tables laid out before its first step and writes what is said into others, so that the host need
not look at a tensor between two steps.

S slots, T steps of a round, K codebooks, V text tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from pipeline.model.attention import Reach
from pipeline.model.decoding import draw_each, hold, probabilities_of
from pipeline.model.encoding import SlottedMimi
from pipeline.model.fitting import SMALLEST_BUCKET
from pipeline.model.packing import pack
from pipeline.model.queues import Homeward, Kind, Queues
from pipeline.model.speech_to_text import SpeechToText
from pipeline.model.tables import Answers, Chunk, Codes, Heard, Steps, Tables


@dataclass(frozen=True, slots=True)
class Said:
    """A round on its way to the host."""

    tables: Homeward

    def wait(self) -> Answers:
        return Answers(*self.tables.wait())


def halves(num_slots: int) -> list[int]:
    """All slots, half of them, a quarter, ... down to the smallest bucket."""
    sizes = [num_slots]
    while sizes[-1] >= 2 * SMALLEST_BUCKET:
        sizes.append(sizes[-1] // 2)
    return sizes


class SlottedModel:
    """Mimi's and the language model's state for `num_slots` streams.

    On a CPU it packs the matrices of both, which can then only be used to hear.
    """

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        round_steps: int,
        *,
        encode_rows: int | None = None,
        use_graphs: bool = True,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        """`encode_rows` streams are encoded at once; graphs are used wherever there is CUDA.

        Keys and values are kept in `cache_dtype`, without one as they come.
        """
        pack(speech.language_model, num_slots)
        self._speech = speech
        self.bucket_sizes = halves(num_slots)
        self._queues = Queues(speech.device, use_graphs=use_graphs)
        self._mimi = SlottedMimi(speech, self._queues, num_slots, round_steps, encode_rows)
        self._cache = speech.language_model.empty_cache(num_slots, dtype=cache_dtype)
        self._last_tokens_S = torch.zeros(num_slots, dtype=torch.int64, device=speech.device)
        self._num_said_S = torch.zeros_like(self._last_tokens_S)  # of each slot's prompt
        self._silent_tokens = torch.tensor(speech.silent_tokens, device=speech.device)
        self._tables = Tables.empty(
            (round_steps, num_slots), self._num_codebooks, self.num_heads, speech.device
        )
        with self._queues.on_device():
            self._record()

    def _record(self) -> None:
        """Have a graph of every kind of step, where there are graphs."""
        for kind in product(self.bucket_sizes, (True, False)):
            self._tables.step_1.zero_()  # recording makes steps, and a round has only so many
            self._queues.capture(self._step, Kind(*kind))
        self._queues.join()

    @property
    def frame_samples(self) -> int:
        return self._mimi.frame_samples

    @property
    def device(self) -> torch.device:
        return self._speech.device

    @property
    def num_heads(self) -> int:
        return self._speech.language_model.config.num_extra_heads

    @property
    def _num_codebooks(self) -> int:
        return self._speech.language_model.config.num_codebooks

    def memory(self) -> Iterator[Tensor]:
        """Every tensor in which the slots remember what they have heard."""
        yield from self._mimi.memory()
        yield from self.cache_memory()

    def cache_memory(self) -> Iterator[Tensor]:
        """Of these, the language model's keys and values."""
        yield from (*self._cache.keys.tensors(), *self._cache.values.tensors())

    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a queue of its own."""
        return self._mimi.encode(chunk)

    @torch.inference_mode()
    def run(self, steps: Steps, codes: Sequence[Codes]) -> Said:
        """Queue every step of a round."""
        with self._queues.on_device():
            for chunk_codes in codes:
                self._queues.receive(chunk_codes.codes_JFK, chunk_codes.done)
            self._tables.lay(steps, codes, self._queues.upload)
            kind = Kind(steps.num_slots, steps.is_plain)
            for reach_S in np.minimum(steps.positions_TS + 1, self._cache.capacity).tolist():
                self._queues.run(self._step, kind, tuple(reach_S))
            copies = self._tables.said(steps.num_steps, steps.num_slots)
            return Said(self._queues.download(copies))

    def _step(self, kind: Kind, reach: Reach) -> None:
        """Every slot hears a frame and says a token; where, the tables' own counter tells."""
        heard, language_model = self._tables.heard(kind.num_slots), self._speech.language_model
        is_fresh_S = heard.positions_S == 0
        last_tokens_S = self._last_tokens_S[: kind.num_slots]
        codes_SK = heard.codes_SK.masked_fill(is_fresh_S[:, None], language_model.config.audio_card)
        text_S = last_tokens_S.masked_fill(is_fresh_S, language_model.config.text_start_id)
        cache = self._cache.first(kind.num_slots)
        cache.next_positions_B.copy_(heard.positions_S)
        prediction = language_model.extend(
            codes_SK[:, None], text_S[:, None], cache, is_fresh_S, reach
        )
        logits_SV = prediction.logits_STV[:, 0]
        last_tokens_S.copy_(self._chosen(logits_SV, heard, kind))
        extra_STHA = prediction.extra_STHA
        heads_SH = None if extra_STHA is None else extra_STHA[:, 0, :, 0]
        self._tables.write(last_tokens_S, probabilities_of(last_tokens_S, logits_SV), heads_SH)

    def _chosen(self, logits_SV: Tensor, heard: Heard, kind: Kind) -> Tensor:
        """What every slot says: forced, held to its prompt, drawn or simply the likeliest."""
        num_said_S = self._num_said_S[: kind.num_slots]
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

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy everything the slots `sources` remember to the slots `targets`."""
        for rows, places in self._queues.moves(sources, targets):
            self._mimi.move(rows, places)
            self._cache.put(places, self._cache.rows(rows))
            for said_S in (self._last_tokens_S, self._num_said_S):
                said_S.index_copy_(0, places, said_S.index_select(0, rows))


def _unless_forced(chosen_S: Tensor, forced_S: Tensor) -> Tensor:
    return torch.where(forced_S < 0, chosen_S, forced_S)
