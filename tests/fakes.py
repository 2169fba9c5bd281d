"""A model whose every answer depends on everything its own slot has heard, and on nothing else,
and a transcriber over it."""

# T steps of a round, S slots, J jobs of a chunk, F frames, N samples

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from pipeline.engine.engine import Engine, ScheduleConfig
from pipeline.engine.step_model import Chunk, Steps
from pipeline.engine.stream import Heard, Stream
from pipeline.records import Word
from pipeline.transcriber import Clip, Conversation, Transcriber

PRIME = 9973


class HashingModel:
    """Two toy recurrences, a codec's over frames and a language model's over codes and tokens."""

    def __init__(self, num_slots: int, frame_samples: int = 4, num_heads: int = 1) -> None:
        self.frame_samples, self.num_heads = frame_samples, num_heads
        self.bucket_sizes = [num_slots, -(-num_slots // 2), -(-num_slots // 4)]
        self.codec_S = np.full(num_slots, 77)  # not zero: a fresh stream must not hear it
        self.language_S = np.full(num_slots, 88)

    def encode(self, chunk: Chunk) -> np.ndarray:
        samples_JFN = np.zeros((len(chunk.pieces), chunk.num_frames, self.frame_samples), np.int64)
        for samples_FN, piece in zip(samples_JFN, chunk.pieces, strict=True):
            samples_FN.reshape(-1)[: len(piece)] = piece
        sums_JF = samples_JFN.sum(-1)
        state_J = np.where(chunk.fresh_J, 0, self.codec_S[chunk.slots_J])
        codes_JF = np.empty_like(sums_JF)
        for frame in range(chunk.num_frames):
            state_J = codes_JF[:, frame] = mixed(state_J, sums_JF[:, frame])
        self.codec_S[chunk.slots_J[chunk.kept_J]] = state_J[chunk.kept_J]
        return codes_JF

    def run(self, steps: Steps, codes: Sequence[np.ndarray]) -> "HashingSaid":
        codes_F = np.concatenate([*(chunk_JF.ravel() for chunk_JF in codes), [0]])
        tokens_TS = np.empty((steps.num_steps, steps.num_slots), np.int32)
        for step in range(steps.num_steps):
            heard_S = codes_F[steps.frames_TS[step]]
            tokens_TS[step] = self.step(heard_S, steps.positions_TS[step], steps.forced_TS[step])
        return HashingSaid(tokens_TS, self.num_heads)

    def step(self, heard_S: np.ndarray, positions_S: np.ndarray, forced_S: np.ndarray):
        state_S = self.language_S[: len(heard_S)]
        state_S[positions_S == 0] = 0
        said_S = mixed(state_S, np.where(positions_S == 0, 0, heard_S))
        state_S[:] = np.where(forced_S >= 0, forced_S, said_S)
        return state_S

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        for state_S in (self.codec_S, self.language_S):
            state_S[list(targets)] = state_S[list(sources)]
            state_S[list(sources)] = 99


class HashingSaid:
    def __init__(self, tokens_TS: np.ndarray, num_heads: int) -> None:
        self._tokens_TS, self._num_heads = tokens_TS, num_heads

    def wait(self) -> SimpleNamespace:
        confidences_TS = (self._tokens_TS / PRIME).astype(np.float32)
        heads_TSH = np.repeat(confidences_TS[..., None], self._num_heads, axis=-1)
        return SimpleNamespace(
            tokens_TS=self._tokens_TS, confidences_TS=confidences_TS, heads_TSH=heads_TSH
        )


def mixed(state, heard):
    return (state * 31 + heard + 1) % PRIME


def tokens_alone(stream: Stream, frame_samples: int) -> list[int]:
    """What the hashing model says of a stream, worked out without slots, chunks or rounds."""
    samples_N = np.zeros(stream.num_frames * frame_samples, np.int64)
    samples_N[: len(stream.samples)] = stream.samples[:]
    codec = language = 0
    tokens = []
    for step in range(stream.num_steps):
        if step:
            codec = mixed(codec, samples_N[(step - 1) * frame_samples : step * frame_samples].sum())
        said = mixed(language, codec if step else 0)
        language = stream.forced_tokens[step] if step < len(stream.forced_tokens) else int(said)
        tokens.append(language)
    return tokens


def hashing_transcriber(num_slots: int, round_steps: int = 5, frame_samples: int = 1920):
    """A transcriber of the real kind over the hashing model: a word a frame, spelt by its token."""
    conversation = Conversation(
        frame_samples=frame_samples, prefix_frames=1, flush_frames=2, read_words=_words
    )
    model = HashingModel(num_slots, frame_samples)
    return Transcriber(Engine(model, ScheduleConfig(round_steps=round_steps)), conversation)


def _words(clip: Clip, heard: Heard) -> list[Word]:
    """One word for each of the clip's own frames, on the 80 ms it was heard in."""
    tokens = heard.tokens_T[2:-2].tolist()
    return [
        Word(f"w{token}", frame * 0.08, (frame + 1) * 0.08, token / PRIME)
        for frame, token in enumerate(tokens)
    ]
