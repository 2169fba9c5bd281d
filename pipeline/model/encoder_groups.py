"""Which jobs of a chunk are encoded at once, in which shape, and how their samples get there.

On a GPU every shape of a convolution costs a plan, so groups are padded to shapes of a short list.
Rows beyond the jobs are encoded too, and dropped.

J jobs of a chunk, R rows of a group, N samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightscribe.engine.interface import Chunk
from nightscribe.model.cuda_graphs import CudaRuntime, EncoderKey
from nightscribe.model.memory_budget import SMALLEST_BUCKET

NUM_FRAME_COUNTS = 3  # a whole chunk, half of it, a quarter


class EncoderGroup(NamedTuple):
    """Jobs that are encoded at once, padded to a shape."""

    jobs: np.ndarray
    key: EncoderKey


@dataclass(frozen=True, slots=True)
class GroupShapes:
    """Numbers of rows and of frames that groups may have, rising.

    `max_cells` is the largest product of both, of groups of more than one row: a CPU gains nothing
    from more. Single frames of several live streams are one group then.
    """

    rows: tuple[int, ...]
    frames: tuple[int, ...] = ()  # empty: groups are not padded
    max_cells: int | None = None

    @property
    def all(self) -> list[EncoderKey]:
        """Every shape of the list, the largest first."""
        pairs = (EncoderKey(rows, frames) for rows in self.rows for frames in self.frames)
        return sorted(pairs, key=lambda shape: -shape.num_rows * shape.num_frames)

    def groups(self, chunk: Chunk) -> Iterator[EncoderGroup]:
        """All jobs of a chunk.

        The last chunk of a stream comes in a group before that of its successor, which overwrites
        the state of their slot. A stream that goes on is not padded, which would change its state.
        """
        lengths_J = np.where(chunk.continues_J, chunk.frames_J, self._padded(chunk))
        order_J = np.lexsort((-chunk.frames_J, lengths_J, chunk.continues_J))
        kinds_J2 = np.stack((lengths_J, chunk.continues_J), axis=1)[order_J]
        changes = np.flatnonzero(np.diff(kinds_J2, axis=0).any(axis=1)) + 1
        for alike in np.split(order_J, changes):
            num_rows = self._rows_of(int(lengths_J[alike].max(initial=1)))
            for first in range(0, len(alike), num_rows):
                jobs = alike[first : first + num_rows]
                yield EncoderGroup(jobs, self._key(chunk.frames_J[jobs], lengths_J[jobs[0]]))

    def _rows_of(self, num_frames: int) -> int:
        if self.max_cells is None:
            return self.rows[-1]
        return max(min(self.rows[-1], self.max_cells // num_frames), 1)

    def _padded(self, chunk: Chunk) -> np.ndarray:
        """Frames of each job if its stream ends in it."""
        if not self.frames:
            return np.full_like(chunk.frames_J, chunk.frames_J[~chunk.continues_J].max(initial=0))
        counts = np.array(self.frames)
        return counts[np.searchsorted(counts, np.minimum(chunk.frames_J, counts[-1]))]

    def _key(self, frames_J: np.ndarray, padded_frames: int) -> EncoderKey:
        if not self.frames:
            return EncoderKey(len(frames_J), int(frames_J.max()))
        num_rows = next(rows for rows in self.rows if rows >= len(frames_J))
        return EncoderKey(num_rows, int(padded_frames))


def fixed_shapes(encode_rows: int, chunk_frames: int, *, reproducible: bool) -> GroupShapes:
    """Of a GPU; a reproducible one has a single shape, in which every stream rounds alike."""
    if reproducible:
        return GroupShapes((encode_rows,), (chunk_frames,))
    rows = [encode_rows]
    while rows[-1] >= 2 * SMALLEST_BUCKET:
        rows.append(rows[-1] // 2)
    frames = {-(-chunk_frames // 2**halvings) for halvings in range(NUM_FRAME_COUNTS)}
    return GroupShapes(tuple(sorted(rows)), tuple(sorted(frames)))


class SampleStaging:
    """Memory of the host that samples are written to once, for the device to copy.

    The buffers take turns: a buffer is written again when the device has copied what was in it.
    """

    def __init__(self, runtime: CudaRuntime, num_samples: int, num_buffers: int) -> None:
        self._runtime = runtime
        self._buffers = [runtime.host_buffer(num_samples) for _ in range(num_buffers)]
        self._arrays = [buffer.numpy() for buffer in self._buffers]
        self._copied: list[torch.cuda.Event | None] = [None] * num_buffers
        self._turn = 0

    def write(self, chunk: Chunk, jobs: np.ndarray, num_rows: int, num_samples: int) -> Tensor:
        """Rows of a chunk's jobs between silence, in host memory; rows beyond are anything."""
        self._turn = (self._turn + 1) % len(self._buffers)
        copied = self._copied[self._turn]
        if copied is not None:
            copied.synchronize()
        size = num_rows * num_samples
        rows_RN = self._arrays[self._turn][:size].reshape(num_rows, num_samples)
        silent = chunk.silent_J[jobs].tolist()
        for row_N, job, before in zip(rows_RN, jobs.tolist(), silent, strict=False):
            own_N = chunk.samples[job]
            if len(own_N) == num_samples:
                row_N[:] = own_N
                continue
            row_N[:before] = 0
            row_N[before : before + len(own_N)] = own_N
            row_N[before + len(own_N) :] = 0
        return self._buffers[self._turn][:size].view(num_rows, num_samples)

    def mark_copied(self) -> None:
        """The copy of the rows written last is queued on the current stream."""
        self._copied[self._turn] = self._runtime.record_event()
