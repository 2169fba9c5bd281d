"""Audio on its way to the engine's process: a ring of frames for each channel, in shared memory.

The sending process writes frames and announces them on a socket; the other reads them from here.
A frame is overwritten only when the output of its step has come back.
"""

# R channels, C frames of a ring, N samples of a frame

import mmap
import os
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, slots=True)
class RingShape:
    """The layout of the memory, the same on both sides."""

    num_channels: int
    num_frames: int
    frame_samples: int

    @property
    def size_bytes(self) -> int:
        return 2 * self.num_channels * self.num_frames * self.frame_samples


class Rings:
    """Frames of every channel; both processes map the same memory."""

    def __init__(self, shape: RingShape, fd: int) -> None:
        self.shape, self._fd = shape, fd
        memory = mmap.mmap(fd, shape.size_bytes)
        samples = np.frombuffer(memory, np.int16)
        self._frames_RCN = samples.reshape(
            shape.num_channels, shape.num_frames, shape.frame_samples
        )

    @classmethod
    def create(cls, shape: RingShape) -> Self:
        """New memory without a name; pages are taken when they are first written."""
        fd = os.memfd_create("nightscribe-audio")
        os.ftruncate(fd, shape.size_bytes)
        return cls(shape, fd)

    def handle(self) -> Any:
        """What a process that is being started needs to map the same memory."""
        return DupFd(self._fd)

    def write(self, channel: int, first_frame: int, samples_N: np.ndarray) -> None:
        """Write whole frames from this frame of the channel's stream on."""
        frames_FN = samples_N.reshape(-1, self.shape.frame_samples)
        places_F = (first_frame + np.arange(len(frames_FN))) % self.shape.num_frames
        self._frames_RCN[channel, places_F] = frames_FN

    def read(self, channel: int, first_frame: int, num_frames: int) -> np.ndarray:
        """A copy of some frames of the channel's stream."""
        places_F = (first_frame + np.arange(num_frames)) % self.shape.num_frames
        return self._frames_RCN[channel, places_F].ravel()
