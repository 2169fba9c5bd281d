"""A checkpoint with slots: many streams side by side, each at its own position.

Satisfies the engine's `StepModel` by shape. A round of steps reads everything it needs from
tables laid out before its first step and writes what is said into others, so that the host need
not look at a tensor between two steps.

S slots, T steps of a round, J jobs of a chunk, F frames, N samples, K codebooks, H extra heads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.model.attention import Reach
from pipeline.model.decoding import Sampling, draw, probabilities_of
from pipeline.model.fitting import SMALLEST_BUCKET
from pipeline.model.packing import pack
from pipeline.model.queues import Queues
from pipeline.model.speech_to_text import FULL_SCALE, GREEDY, SpeechToText


class Answers(NamedTuple):
    """What a round said, on the host."""

    tokens_TS: np.ndarray
    confidences_TS: np.ndarray
    heads_TSH: np.ndarray


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes of a chunk, and the sign that they are there."""

    codes_JFK: Tensor
    done: object


@dataclass(frozen=True, slots=True)
class Said:
    """A round on its way to the host; keeps alive what it reads."""

    tables: tuple[Tensor, ...]
    codes: Sequence[Codes]
    queues: Queues
    done: object

    def wait(self) -> Answers:
        self.queues.wait(self.done)
        return Answers(*(table.numpy() for table in self.tables))


@dataclass(slots=True)
class _Tables:
    """What a round reads and writes, one row per step."""

    step_1: Tensor
    positions_TS: Tensor
    forced_TS: Tensor
    codes_TSK: Tensor
    tokens_TS: Tensor
    confidences_TS: Tensor
    heads_TSH: Tensor

    @classmethod
    def empty(
        cls,
        shape_TS: tuple[int, int],
        num_codebooks: int,
        num_heads: int,
        device: torch.device,
    ) -> "_Tables":
        def table(*extra: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(*shape_TS, *extra, dtype=dtype, device=device)

        return cls(
            torch.zeros(1, dtype=torch.int64, device=device),
            table(),
            table(),
            table(num_codebooks),
            table(dtype=torch.int32),
            table(dtype=torch.float32),
            table(num_heads, dtype=torch.float32),
        )


class Chunk(Protocol):
    """Samples to encode, as the engine lays them out."""

    @property
    def num_frames(self) -> int: ...
    @property
    def frames_J(self) -> np.ndarray: ...
    @property
    def pieces(self) -> Sequence[np.ndarray]: ...
    @property
    def slots_J(self) -> np.ndarray: ...
    @property
    def fresh_J(self) -> np.ndarray: ...
    @property
    def kept_J(self) -> np.ndarray: ...


class Steps(Protocol):
    """A round, as the engine lays it out."""

    @property
    def positions_TS(self) -> np.ndarray: ...
    @property
    def frames_TS(self) -> np.ndarray: ...
    @property
    def forced_TS(self) -> np.ndarray: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def num_slots(self) -> int: ...


def halves(num_slots: int) -> list[int]:
    """All slots, half of them, a quarter, ... down to the smallest bucket."""
    sizes = [num_slots]
    while sizes[-1] >= 2 * SMALLEST_BUCKET:
        sizes.append(sizes[-1] // 2)
    return sizes


class SlottedModel:
    """Mimi's and the language model's state for `num_slots` streams.

    On a CPU it packs the language model's matrices, which can then only be used to hear.
    """

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        round_steps: int,
        *,
        encode_rows: int | None = None,
        use_graphs: bool = True,
        sampling: Sampling = GREEDY,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        """`encode_rows` streams are encoded at once; graphs are used wherever there is CUDA.

        Keys and values are kept in `cache_dtype`, without one as they come.
        """
        pack(speech.language_model, num_slots)
        self._speech, self._sampling = speech, sampling
        self.bucket_sizes = halves(num_slots)
        self._queues = Queues(speech.device, use_graphs=use_graphs)
        self._encode_rows = encode_rows or (64 if self._queues.is_cuda else 1)
        self._mimi_state = speech.mimi.initial_state(num_slots, round_steps)
        self._cache = speech.language_model.empty_cache(num_slots, dtype=cache_dtype)
        self._last_tokens_S = torch.zeros(num_slots, dtype=torch.int64, device=speech.device)
        self._tables = _Tables.empty(
            (round_steps, num_slots), self._num_codebooks, self.num_heads, speech.device
        )
        self._queues.capture(self._step, self.bucket_sizes)

    @property
    def frame_samples(self) -> int:
        return self._speech.config.mimi.frame_samples

    @property
    def num_heads(self) -> int:
        return self._speech.language_model.config.num_extra_heads

    @property
    def _num_codebooks(self) -> int:
        return self._speech.language_model.config.num_codebooks

    @torch.inference_mode()
    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a queue of its own."""
        shape_JFK = len(chunk.pieces), chunk.num_frames, self._num_codebooks
        with self._queues.codec():
            codes_JFK = torch.zeros(shape_JFK, dtype=torch.int64, device=self._speech.device)
            for jobs in self._groups(chunk):
                self._encode_group(chunk, jobs, codes_JFK)
            return Codes(codes_JFK, self._queues.sign())

    def _groups(self, chunk: Chunk) -> Iterator[np.ndarray]:
        """Jobs that are encoded at once: of much the same length, so that little is padding.

        The last chunk of a stream comes before the first of its successor, which overwrites the
        state of their slot.
        """
        order_J = np.lexsort((-chunk.frames_J, chunk.kept_J))
        for first in range(0, len(order_J), self._encode_rows):
            yield order_J[first : first + self._encode_rows]

    def _encode_group(self, chunk: Chunk, jobs: np.ndarray, codes_JFK: Tensor) -> None:
        num_frames = chunk.frames_J[jobs].max()
        samples_JN = self._samples([chunk.pieces[job] for job in jobs], num_frames)
        slots_J, kept_J = chunk.slots_J[jobs], chunk.kept_J[jobs]
        state = self._mimi_state.rows(self._queues.upload(slots_J))
        fresh_J = self._queues.upload(chunk.fresh_J[jobs])
        heard_JFK = self._speech.mimi.encode(samples_JN, state, fresh_J)
        codes_JFK[:, :num_frames].index_copy_(0, self._queues.upload(jobs), heard_JFK)
        if kept_J.any():
            kept = self._queues.upload(np.flatnonzero(kept_J))
            self._mimi_state.put(self._queues.upload(slots_J[kept_J]), state.rows(kept))

    def _samples(self, pieces: Sequence[np.ndarray], num_frames: int) -> Tensor:
        samples_JN = np.zeros((len(pieces), num_frames * self.frame_samples), np.int16)
        for samples_N, piece in zip(samples_JN, pieces, strict=True):
            samples_N[: len(piece)] = piece
        return self._queues.upload(samples_JN).float() / FULL_SCALE

    @torch.inference_mode()
    def run(self, steps: Steps, codes: Sequence[Codes]) -> Said:
        """Queue every step of a round."""
        for chunk_codes in codes:
            self._queues.after(chunk_codes.done)
        self._lay(steps, codes)
        for reach_S in np.minimum(steps.positions_TS + 1, self._cache.capacity).tolist():
            self._queues.run(self._step, steps.num_slots, tuple(reach_S))
        tables = self._tables
        answers = (tables.tokens_TS, tables.confidences_TS, tables.heads_TSH)
        copies = [table[: steps.num_steps, : steps.num_slots].clone() for table in answers]
        on_host, done = self._queues.download(copies)
        return Said(on_host, codes, self._queues, done)

    def _lay(self, steps: Steps, codes: Sequence[Codes]) -> None:
        tables, upload = self._tables, self._queues.upload
        span = slice(steps.num_steps), slice(steps.num_slots)
        tables.step_1.zero_()
        tables.positions_TS[span] = upload(steps.positions_TS).long()
        tables.forced_TS[span] = upload(steps.forced_TS).long()
        codes_FK = torch.cat([chunk.codes_JFK.flatten(0, 1) for chunk in codes])
        if len(codes_FK):
            frames_TS = upload(steps.frames_TS)
            codes_TSK = codes_FK.index_select(0, frames_TS.flatten())
            tables.codes_TSK[span] = codes_TSK.unflatten(0, frames_TS.shape)

    def _step(self, num_slots: int, reach: Reach) -> None:
        """Every slot hears a frame and says a token; where, the tables' own counter tells."""
        tables, language_model = self._tables, self._speech.language_model
        now = tables.step_1
        positions_S = tables.positions_TS.index_select(0, now)[0, :num_slots]
        forced_S = tables.forced_TS.index_select(0, now)[0, :num_slots]
        codes_SK = tables.codes_TSK.index_select(0, now)[0, :num_slots]
        is_fresh_S = positions_S == 0
        last_tokens_S = self._last_tokens_S[:num_slots]
        codes_SK = codes_SK.masked_fill(is_fresh_S[:, None], language_model.config.audio_card)
        text_S = last_tokens_S.masked_fill(is_fresh_S, language_model.config.text_start_id)
        cache = self._cache.first(num_slots)
        cache.next_positions_B.copy_(positions_S)
        prediction = language_model.extend(
            codes_SK[:, None], text_S[:, None], cache, is_fresh_S, reach
        )
        logits_SV = prediction.logits_STV[:, 0]
        drawn_S = draw(logits_SV, self._sampling, positions_S)
        last_tokens_S.copy_(torch.where(forced_S < 0, drawn_S, forced_S))
        self._write(tables.tokens_TS, last_tokens_S.int())
        self._write(tables.confidences_TS, probabilities_of(last_tokens_S, logits_SV))
        if prediction.extra_STHA is not None:
            self._write(tables.heads_TSH, prediction.extra_STHA[:, 0, :, 0])
        now += 1

    def _write(self, table_TS: Tensor, said_S: Tensor) -> None:
        table_TS[:, : len(said_S)].index_copy_(0, self._tables.step_1, said_S[None])

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy everything the slots `sources` remember to the slots `targets`."""
        self._queues.join()
        rows, places = (self._queues.upload(np.array(slots)) for slots in (sources, targets))
        self._mimi_state.put(places, self._mimi_state.rows(rows))
        self._cache.put(places, self._cache.rows(rows))
        self._last_tokens_S.index_copy_(0, places, self._last_tokens_S.index_select(0, rows))
        self._queues.join()
