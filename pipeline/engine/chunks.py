"""Sound to encode, cut out of the streams that need it."""

# J jobs of a chunk

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightscribe.engine.stream import Stream


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Samples to encode: one job per stream (there may be none), all of one number of frames.

    A job has fewer frames than the chunk where its stream ends. Its piece may be shorter than its
    frames; silence fills the rest.
    """

    num_frames: int
    frames_J: np.ndarray
    pieces: Sequence[np.ndarray]  # J arrays of int16
    slots_J: np.ndarray  # whose state a job continues
    fresh_J: np.ndarray  # the stream begins here: the slot's old state must not be heard
    kept_J: np.ndarray  # the stream goes on: store the state for its next chunk


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """The next frames of the stream in a slot."""

    slot: int
    stream: Stream
    first_frame: int
    end_frame: int

    def piece(self, frame_samples: int) -> np.ndarray:
        """Its samples; fewer where the stream's samples end."""
        return self.stream.samples[
            self.first_frame * frame_samples : self.end_frame * frame_samples
        ]


def chunk_of(jobs: Sequence[Job], num_frames: int, frame_samples: int) -> Chunk:
    """These jobs, none longer than `num_frames`."""
    return Chunk(
        num_frames=num_frames,
        frames_J=np.array([job.end_frame - job.first_frame for job in jobs], np.int64),
        pieces=[job.piece(frame_samples) for job in jobs],
        slots_J=np.array([job.slot for job in jobs], np.int64),
        fresh_J=np.array([job.first_frame == 0 for job in jobs], bool),
        kept_J=np.array([job.end_frame < job.stream.num_frames for job in jobs], bool),
    )
