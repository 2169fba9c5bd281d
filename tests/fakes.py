"""A model whose output depends on all input of its own slot and on nothing else, and a
transcriber over it."""

# T steps of a round, S slots, J jobs of a chunk, F frames, N samples

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from nightscribe.engine.interface import HOLD, Chunk, RoundInput
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream, StreamOutput
from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Word
from nightscribe.transcription.transcriber import Clip, ClipAdapter, Transcriber

PRIME = 9973


class HashingModel:
    """Two toy recurrences, a codec's over frames and a language model's over codes and tokens."""

    def __init__(self, num_slots: int, frame_samples: int = 4, num_vad_heads: int = 1) -> None:
        self.frame_samples, self.num_vad_heads = frame_samples, num_vad_heads
        self.bucket_sizes = [num_slots, -(-num_slots // 2), -(-num_slots // 4)]
        self.codec_S = np.full(num_slots, 77)  # not zero: a fresh stream must not use it
        self.language_S = np.full(num_slots, 88)
        self.prompted_S = np.full(num_slots, 66)

    def encode(self, chunk: Chunk) -> np.ndarray:
        samples_JFN = np.zeros((len(chunk.samples), chunk.num_frames, self.frame_samples), np.int64)
        for samples_FN, piece, before in zip(
            samples_JFN, chunk.samples, chunk.silent_J, strict=True
        ):
            samples_FN.reshape(-1)[before : before + len(piece)] = piece
        sums_JF = samples_JFN.sum(-1)
        state_J = np.where(chunk.fresh_J, 0, self.codec_S[chunk.slots_J])
        codes_JF = np.empty_like(sums_JF)
        for frame in range(chunk.num_frames):
            codes_JF[:, frame] = mixed(state_J, sums_JF[:, frame])
            state_J = np.where(frame < chunk.frames_J, codes_JF[:, frame], state_J)
        self.codec_S[chunk.slots_J[chunk.continues_J]] = state_J[chunk.continues_J]
        return codes_JF

    def run(self, steps: RoundInput, codes: Sequence[np.ndarray]) -> "HashingRound":
        codes_F = np.concatenate([*(chunk_JF.ravel() for chunk_JF in codes), [0]])
        tokens_TS = np.empty((steps.num_steps, steps.num_slots), np.int32)
        for step in range(steps.num_steps):
            now = Now(steps, step)
            tokens_TS[step] = self.step(codes_F[steps.code_rows_TS[step]], now)
        return HashingRound(tokens_TS, self.num_vad_heads)

    def step(self, heard_S: np.ndarray, now: "Now"):
        state_S, prompted_S = self.language_S[: len(heard_S)], self.prompted_S[: len(heard_S)]
        is_fresh_S = now.positions_S == 0
        self.forget(is_fresh_S, state_S, prompted_S)
        said_S = mixed(state_S, np.where(is_fresh_S, 0, heard_S) + now.whims_S)
        is_held_S = now.forced_S == HOLD
        due_S = now.prompt_tokens_P[np.where(is_held_S, 0, now.prompts_S + prompted_S)]
        said_S = np.where((due_S >= 0) & (said_S % 2 == 0), due_S, said_S)
        said_S = np.where(now.forced_S >= 0, now.forced_S, said_S)
        state_S[:] = np.where(is_held_S, state_S, said_S)
        prompted_S += (state_S == due_S) & ~is_held_S
        return state_S

    def forget(self, is_fresh_S: np.ndarray, state_S: np.ndarray, prompted_S: np.ndarray) -> None:
        state_S[is_fresh_S] = prompted_S[is_fresh_S] = 0

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        for state_S in (self.codec_S, self.language_S, self.prompted_S):
            state_S[list(targets)] = state_S[list(sources)]
            state_S[list(sources)] = 99


class Now:
    """The input of the slots at one step."""

    def __init__(self, steps: RoundInput, step: int) -> None:
        self.positions_S, self.forced_S = steps.positions_TS[step], steps.forced_TS[step]
        self.prompts_S, self.prompt_tokens_P = steps.prompts_TS[step], steps.prompt_tokens_P
        # Without a temperature no seed may matter.
        temperatures_S = steps.temperatures_TS[step]
        whims_S = whim(temperatures_S, steps.seeds_TS[step])
        self.whims_S = np.where(temperatures_S > 0, whims_S, 0)


class HashingRound:
    def __init__(self, tokens_TS: np.ndarray, num_vad_heads: int) -> None:
        self._tokens_TS, self._num_vad_heads = tokens_TS, num_vad_heads

    def wait(self) -> SimpleNamespace:
        confidences_TS = (self._tokens_TS / PRIME).astype(np.float32)
        vad_TSH = np.repeat(confidences_TS[..., None], self._num_vad_heads, axis=-1)
        return SimpleNamespace(
            tokens_TS=self._tokens_TS, confidences_TS=confidences_TS, vad_TSH=vad_TSH
        )


def mixed(state, heard):
    return (state * 31 + heard + 1) % PRIME


def whim(temperature, seed):
    return (np.float32(temperature) * 1024).astype(np.int64) * 7 + seed


def tokens_alone(stream: Stream, frame_samples: int) -> list[int]:
    """The hashing model's output for a stream, computed without slots, chunks or rounds."""
    samples_N = stream.whole_samples(frame_samples).astype(np.int64)
    codec = language = 0
    prompt = list(stream.prompt_tokens)
    own_whim = whim(stream.temperature, stream.seed) if stream.temperature else 0
    tokens = []
    for step in range(stream.num_steps):
        if step:
            codec = mixed(codec, samples_N[(step - 1) * frame_samples : step * frame_samples].sum())
        said = int(mixed(language, (codec if step else 0) + own_whim))
        said = prompt[0] if prompt and said % 2 == 0 else said
        language = stream.forced_tokens[step] if step < len(stream.forced_tokens) else said
        if prompt and language == prompt[0]:
            prompt.pop(0)
        tokens.append(language)
    return tokens


def hashing_transcriber(
    num_slots: int,
    round_steps: int = 5,
    frame_samples: int = 1920,
    guards: GuardsConfig | None = None,
):
    """A transcriber of the real kind over the hashing model: a word a frame, spelt by its token."""
    adapter = ClipAdapter(
        sample_rate_hz=24_000,
        frame_samples=frame_samples,
        prefix_frames=1,
        flush_frames=2,
        read_words=_words,
    )
    engine = step_engine(HashingModel(num_slots, frame_samples), round_steps=round_steps)
    return Transcriber(engine, adapter, guards, model="hashing", model_revision="r1")


def _words(clip: Clip, heard: StreamOutput) -> list[Word]:
    """One word for each of the clip's own frames, on the 80 ms of that frame."""
    tokens = heard.tokens_T[2:-2].tolist()
    return [
        Word(f"w{token}", frame * 0.08, (frame + 1) * 0.08, token / PRIME)
        for frame, token in enumerate(tokens)
    ]
