"""Mimi with slots: chunks of many streams at once to codes, ahead of the steps that hear them.

J jobs of a chunk, F frames, N samples, K codebooks.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.cpu_weights import pack
from nightscribe.model.cuda_runtime import Queues
from nightscribe.model.speech_to_text import FULL_SCALE, SpeechToText
from nightscribe.model.step_tables import Chunk, Codes

GPU_ROWS = 64


class SlottedMimi:
    """Mimi's state of `num_slots` streams. On a CPU it packs its matrices."""

    def __init__(
        self,
        speech: SpeechToText,
        queues: Queues,
        num_slots: int,
        chunk_frames: int,
        rows: int | None,
    ) -> None:
        """`rows` streams are encoded at once."""
        self.mimi, self._queues = speech.mimi, queues
        pack(self.mimi, chunk_frames * self.mimi.config.positions_per_frame)
        self._num_codebooks = speech.language_model.config.num_codebooks
        self._rows = rows or (GPU_ROWS if queues.is_cuda else 1)
        self.state = self.mimi.initial_state(num_slots, chunk_frames)

    @property
    def frame_samples(self) -> int:
        return self.mimi.config.frame_samples

    def memory(self) -> Iterator[Tensor]:
        """Every tensor in which the slots remember what they have heard."""
        cache = self.state.cache
        yield from (*self.state.seanet_pasts, self.state.downsample_past_BDP)
        yield from (*cache.keys.tensors(), *cache.values.tensors())

    @torch.inference_mode()
    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a queue of its own."""
        shape_JFK = len(chunk.pieces), chunk.num_frames, self._num_codebooks
        with self._queues.on_device(), self._queues.codec():
            codes_JFK = torch.zeros(shape_JFK, dtype=torch.int64, device=self._queues.device)
            for jobs in self._groups(chunk):
                self._encode_group(chunk, jobs, codes_JFK)
            return Codes(codes_JFK, self._queues.sign())

    def _groups(self, chunk: Chunk) -> Iterator[np.ndarray]:
        """Jobs that are encoded at once: of much the same length, so that little is padding.

        The last chunk of a stream comes before the first of its successor, which overwrites the
        state of their slot.
        """
        order_J = np.lexsort((-chunk.frames_J, chunk.kept_J))
        for first in range(0, len(order_J), self._rows):
            yield order_J[first : first + self._rows]

    def _encode_group(self, chunk: Chunk, jobs: np.ndarray, codes_JFK: Tensor) -> None:
        num_frames = chunk.frames_J[jobs].max()
        samples_JN = self._samples([chunk.pieces[job] for job in jobs], num_frames)
        slots_J, kept_J = chunk.slots_J[jobs], chunk.kept_J[jobs]
        state = self.state.rows(self._queues.upload(slots_J))
        fresh_J = self._queues.upload(chunk.fresh_J[jobs])
        heard_JFK = self.mimi.encode(samples_JN, state, fresh_J)
        codes_JFK[:, :num_frames].index_copy_(0, self._queues.upload(jobs), heard_JFK)
        if kept_J.any():
            kept = self._queues.upload(np.flatnonzero(kept_J))
            self.state.put(self._queues.upload(slots_J[kept_J]), state.rows(kept))

    def _samples(self, pieces: Sequence[np.ndarray], num_frames: int) -> Tensor:
        samples_JN = np.zeros((len(pieces), num_frames * self.frame_samples), np.int16)
        for samples_N, piece in zip(samples_JN, pieces, strict=True):
            samples_N[: len(piece)] = piece
        return self._queues.upload(samples_JN).float() / FULL_SCALE

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy what some slots remember to others."""
        self.state.put(targets, self.state.rows(sources))
