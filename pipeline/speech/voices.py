"""Voices by name: published vectors, or a recording whose voice is continued.

W width of a voice vector, T vectors of a voice, P frames and K codebooks of an audio prompt.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.model.checkpoints.locations import HUB, fetch, is_file, locate
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.model.checkpoints.text_to_speech import SpeechCheckpoint, check_voice, read_voice
from nightscribe.model.mimi import Mimi

DROPPED_FRAMES = 2  # the last frames of a recording, whose sound is incomplete
MAX_PROMPT_S = 30.0
RETRY_S = 60.0  # before a voice that was not found is looked for again
MAX_REMEMBERED = 1000  # of these
SHOWN_CHARACTERS = 200  # of the name of a voice that there is not
FULL_SCALE = 32768.0
# The samples of a recording at the codec's rate: one channel of 16 bits.
ReadAudio = Callable[[Path], NDArray[np.int16]]


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """One voice: vectors to attend to, or codes to continue."""

    vectors_WT: Tensor | None = None
    prompt_PK: Tensor | None = None


class Voices:
    """Finds voices of one model and keeps them; for any thread."""

    def __init__(
        self, checkpoint: SpeechCheckpoint, repository: str, read_audio: ReadAudio
    ) -> None:
        self._checkpoint, self._repository = checkpoint, repository
        self._read_audio = read_audio
        self._known: dict[str, Voice] = {}
        self._added: dict[str, Voice] = {}
        self._failed: dict[tuple[str, bool], tuple[float, CheckpointError]] = {}
        self._lock = threading.Lock()
        self._encoder: Mimi | None = None

    def __getitem__(self, name: str) -> Voice:
        """A voice file or recording here, or a name in the repository of voices.

        Raises CheckpointError if there is no such voice or it is none of this model.
        """
        with self._lock:
            if name in self._added:
                return self._added[name]
            return self._opened(name)

    def published(self, name: str) -> Voice:
        """A voice that a stranger may name: one of the repository, or one that is known already.

        Raises CheckpointError, which does not say what else is on this machine.
        """
        with self._lock:
            try:
                if name not in self._known and not _is_inside(name):
                    raise CheckpointError("the name leads out of the repository of voices")
                return self._opened(name, has_files=False)
            except CheckpointError as error:
                raise CheckpointError(f"there is no voice {name[:SHOWN_CHARACTERS]!r}") from error

    def _opened(self, name: str, *, has_files: bool = True) -> Voice:
        if name not in self._known:
            self._known[name] = self._open_or_remember(name, has_files)
        return self._known[name]

    def add(self, name: str, vectors_1WT: Tensor) -> str:
        """A voice that a client has sent, under a name that no other has; the name.

        Raises CheckpointError if it is none of this model.
        """
        config = self._checkpoint.config
        if config.speakers is None:
            raise CheckpointError("this model continues a recording and has no voice vectors")
        check_voice(vectors_1WT, config, "the voice")
        with self._lock:
            self._added[name] = Voice(vectors_WT=vectors_1WT[0].float())
        return name

    def remove(self, name: str) -> None:
        """Forget a voice that was added."""
        with self._lock:
            self._added.pop(name, None)

    def _open_or_remember(self, name: str, has_files: bool) -> Voice:
        """Thousands of texts may name a voice that does not exist."""
        asked = name, has_files
        failed_at_s, error = self._failed.get(asked, (-RETRY_S, None))
        if error is not None and time.monotonic() - failed_at_s < RETRY_S:
            raise error.with_traceback(None)
        try:
            return self._open(name, has_files)
        except CheckpointError as error:
            if len(self._failed) >= MAX_REMEMBERED:
                self._failed.clear()
            self._failed[asked] = time.monotonic(), error
            raise

    def _open(self, name: str, has_files: bool) -> Voice:
        config = self._checkpoint.config
        suffix = "" if config.speakers is None else config.voice_suffix
        local = [Path(name), Path(name + suffix)] if has_files else []
        path = next(filter(is_file, local), None) or self._fetched(name, suffix)
        if config.speakers is None:
            return Voice(prompt_PK=self._prompt(path))
        return Voice(vectors_WT=read_voice(path, config))

    def _fetched(self, name: str, suffix: str) -> Path:
        if name.endswith(suffix):
            suffix = ""
        location, _ = locate(self._repository)
        try:
            return fetch(location, name if name.startswith(HUB) else name + suffix)
        except CheckpointError as error:
            raise CheckpointError(f"there is no voice {name!r}: {error}") from None

    def _prompt(self, path: Path) -> Tensor:
        """The codes of a recording."""
        mimi_config = self._checkpoint.config.mimi
        samples_N = self._read_audio(path)
        frames = -(-len(samples_N) // mimi_config.frame_samples)
        max_frames = int(MAX_PROMPT_S * mimi_config.frame_rate_hz)
        if not DROPPED_FRAMES < frames <= max_frames:
            duration_s = len(samples_N) / mimi_config.sample_rate_hz
            raise CheckpointError(
                f"{path} lasts {duration_s:.2f} s; a voice needs a recording of at least 0.24 s "
                f"and at most {MAX_PROMPT_S:.0f} s"
            )
        codes_FK = self._encode(samples_N, frames * mimi_config.frame_samples)
        return codes_FK[:-DROPPED_FRAMES, : self._checkpoint.config.num_codebooks]

    def _encode(self, samples_N: NDArray[np.int16], num_samples: int) -> Tensor:
        if self._encoder is None:
            tensors = self._checkpoint.mimi_encoder_tensors()
            self._encoder = Mimi.load(self._checkpoint.config.mimi, tensors, "cpu")
        padded_1N = torch.zeros(1, num_samples)
        padded_1N[0, : len(samples_N)] = torch.from_numpy(samples_N.astype(np.float32)) / FULL_SCALE
        state, fresh = self._encoder.initial_state(1), torch.ones(1, dtype=torch.bool)
        return self._encoder.encode(padded_1N, state, fresh)[0]


def _is_inside(name: str) -> bool:
    """Whether a name stays inside the repository of voices."""
    path = PurePosixPath(name)
    is_elsewhere = name.startswith(HUB) or path.is_absolute() or ".." in path.parts
    return bool(path.parts) and not is_elsewhere
