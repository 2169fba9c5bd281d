"""Runs steps of text to speech, and decodes their codes in pieces, without the host in between.

On a GPU a step is one CUDA graph: backbone, decision about the text, text machine, depth
transformer. The codes stay on the device, in a ring of the last steps of every slot. The decoder
takes pieces of them on a CUDA stream of its own, several slots at a time. The host hears of a step
when it asks for it.

S slots, H steps of the ring, K codebooks, J jobs, F frames, N samples.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.model.cpu_weights import pack
from nightscribe.model.cuda_graphs import CudaRuntime, DecoderKey, PendingCopy, SpeechKey
from nightscribe.model.kv_cache import KVLengths
from nightscribe.model.mimi_decoder import DecoderState, MimiDecoder
from nightscribe.model.tts.script import FlatScript
from nightscribe.model.tts.text_to_speech import Text, TextToSpeech
from nightscribe.model.tts.voice_sources import power_of_two

MAX_PIECE_FRAMES = 25
SPARE_STEPS = 8  # for which the codes of a piece are kept before it is decoded
MAX_ROWS_PER_CALL = 16  # of the decoder


class StepEvents(NamedTuple):
    """What the host hears of a step."""

    consumed_S: NDArray[np.bool_]  # whether an entry of the script began
    ends_S: NDArray[np.int64]  # step at which the script ended, or NO_END


class DecodeJob(NamedTuple):
    """Frames of a slot whose codes are all there."""

    slot: int
    first_frame: int
    num_frames: int
    is_first: bool  # of its text


class SpeechRunner:
    """The state of model and decoder for some slots."""

    def __init__(
        self, model: TextToSpeech, decoder: MimiDecoder, num_slots: int, use_graphs: bool = True
    ) -> None:
        self.model, self.num_slots = model, num_slots
        self._runtime = CudaRuntime(model.device, use_graphs)
        self._state = model.initial_state(num_slots, self._runtime.upload)
        self._layout = self._state.layout
        self._made: set[SpeechKey] = set()  # of this layout
        self._decoding = DecoderRunner(decoder, self._runtime, num_slots)
        device, delays = model.device, model.config.codebook_delays[: model.num_codebooks]
        num_kept = MAX_PIECE_FRAMES + max(delays) + SPARE_STEPS
        self._codes_HSK = torch.zeros(
            (num_kept, num_slots, model.num_codebooks), dtype=torch.int64, device=device
        )
        self._delays_K = torch.tensor(delays, device=device)
        self._slots_S = torch.arange(num_slots, device=device)
        self._codebooks_K = torch.arange(model.num_codebooks, device=device)
        self._consumed_S = torch.zeros(num_slots, dtype=torch.bool, device=device)
        self._ends_S = torch.zeros(num_slots, dtype=torch.int64, device=device)

    @property
    def steps_ahead(self) -> int:
        """Steps worth queueing before one is read."""
        return self._runtime.rounds_ahead

    def begin(self, slot: int, text: Text) -> None:
        """Begin a text in a slot, whatever was there before."""
        with self._runtime.on_device():
            self.model.begin(self._state, slot, text)

    def extend(self, slot: int, script: FlatScript) -> None:
        """Continue the text of a slot by what its script has more."""
        with self._runtime.on_device():
            self._state.machine.continue_with(slot, script)

    def end(self, slot: int) -> None:
        """Free a slot."""
        with self._runtime.on_device():
            self.model.end(self._state, slot)

    @torch.no_grad()
    def step(self, moving: Collection[int]) -> PendingCopy[StepEvents]:
        """Queue a step of these slots; the others stay as they are."""
        state, runtime = self._state, self._runtime
        with runtime.on_device():
            shape = state.sources.shape(is_rounded=runtime.is_cuda)
            state.sources.prepare(shape)
            state.set_moving(moving)
            is_audible = state.is_audible(self.model.config.audio_delay_steps)
            self._replay_or_step(SpeechKey(is_audible, shape))
            state.count_step()
            # Copies, which the next step does not overwrite.
            events = self._consumed_S.clone(), self._ends_S.clone()
            return runtime.download(events, StepEvents)

    @torch.no_grad()
    def decode(
        self, jobs: Sequence[DecodeJob], piece_frames: int
    ) -> PendingCopy[list[NDArray[np.float32]]]:
        """Queue pieces of so many frames to be decoded; only the last of a text may be shorter.

        Gives the samples of each job.
        """
        with self._runtime.on_device():
            return self._decoding.decode(self._frames(jobs, piece_frames), jobs)

    def _replay_or_step(self, key: SpeechKey) -> None:
        if not self._runtime.is_cuda:
            self._step(key, self._state.kv_lengths())
            return
        if self._state.layout != self._layout:
            self._layout = self._state.layout
            self._made.clear()
            self._runtime.forget_steps()
        if key not in self._made:
            self._capture(key)
        graph = self._runtime.graph(key)
        if graph is not None:
            graph.replay()
        else:
            self._step(key, None)

    def _capture(self, key: SpeechKey) -> None:
        """Capture a step that moves no slot: what it writes, the next step writes again."""
        self._made.add(key)
        moving = self._state.moving
        self._state.set_moving(())
        self._runtime.capture(key, partial(self._step, key, None))
        self._state.set_moving(moving)

    def _step(self, key: SpeechKey, kv_lengths: KVLengths) -> None:
        """What a graph records; lengths change from step to step and are not used in one."""
        state = self._state
        where = state.steps_S % len(self._codes_HSK), self._slots_S
        output = self.model.advance(
            state,
            state.sources.tables(key.sources),
            is_audible=key.is_audible,
            kv_lengths=kv_lengths,
        )
        self._codes_HSK.index_put_(where, output.codes_SK[:, : self.model.num_codebooks])
        self._consumed_S.copy_(output.consumed_S)
        self._ends_S.copy_(output.ends_S)

    def _frames(self, jobs: Sequence[DecodeJob], num_frames: int) -> Tensor:
        """The codes JFK of pieces, each codebook taken at its delay; some beyond the last frame."""
        first_step = self.model.config.audio_delay_steps
        pairs = [(job.slot, first_step + job.first_frame) for job in jobs]
        table_J211 = self._runtime.upload(np.array(pairs))[:, :, None, None]
        frames_F1 = torch.arange(num_frames, device=self._delays_K.device)[:, None]
        steps_JFK = table_J211[:, 1] + frames_F1 + self._delays_K
        where = steps_JFK % len(self._codes_HSK), table_J211[:, 0], self._codebooks_K
        return self._codes_HSK[where]


class DecoderRunner:
    """The decoder's state of every slot, on a CUDA stream beside the steps.

    On a CPU it packs the decoder's weights.
    """

    def __init__(self, decoder: MimiDecoder, runtime: CudaRuntime, num_slots: int) -> None:
        self._decoder, self._runtime = decoder, runtime
        if not runtime.is_cuda:
            pack(decoder, MAX_PIECE_FRAMES * decoder.config.positions_per_frame)
        self._idle_slot = num_slots  # whose state is overwritten by what nobody needs
        self._state = decoder.initial_state(num_slots + 1, MAX_PIECE_FRAMES)
        self._calls: dict[DecoderKey, DecoderCall] = {}

    def decode(
        self, codes_JFK: Tensor, jobs: Sequence[DecodeJob]
    ) -> PendingCopy[list[NDArray[np.float32]]]:
        if self._runtime.is_cuda:
            return self._decode_together(codes_JFK, jobs)
        if codes_JFK.shape[1] == 1 < len(jobs):
            pieces = self._decode_frames(codes_JFK, jobs)
        else:
            pieces = [self._decode_alone(*one) for one in zip(codes_JFK, jobs, strict=True)]
        return self._runtime.download(pieces, lambda *pieces_N: list(pieces_N))

    def _decode_frames(self, codes_J1K: Tensor, jobs: Sequence[DecodeJob]) -> list[Tensor]:
        """One frame of several slots, for which a CPU reads the weights once."""
        slots_J = torch.tensor([job.slot for job in jobs])
        rows = self._state.rows(slots_J)
        rows.reset(torch.tensor([job.is_first for job in jobs]))
        samples_JN = self._decoder.decode(codes_J1K, rows).clamp_(-1, 1)
        self._state.put(slots_J, rows)
        return list(samples_JN)

    def _decode_alone(self, codes_FK: Tensor, job: DecodeJob) -> Tensor:
        """In the slot's own memory."""
        state = self._state.row(job.slot)
        state.reset(torch.tensor([job.is_first]))
        return self._decoder.decode(codes_FK[None, : job.num_frames], state)[0].clamp_(-1, 1)

    def _decode_together(
        self, codes_JFK: Tensor, jobs: Sequence[DecodeJob]
    ) -> PendingCopy[list[NDArray[np.float32]]]:
        """Several slots in a call; what is beyond the last frame of a text is decoded with it."""
        groups = [
            slice(first, first + MAX_ROWS_PER_CALL)
            for first in range(0, len(jobs), MAX_ROWS_PER_CALL)
        ]
        calls = [self._call(codes_JFK[group].shape) for group in groups]
        queued = self._runtime.record_event()
        with self._runtime.on_codec_stream():
            self._runtime.wait_event(codes_JFK, queued)
            pieces = [
                self._run(call, codes_JFK[group], jobs[group])
                for call, group in zip(calls, groups, strict=True)
            ]
            return self._runtime.download(pieces, partial(self._trimmed, jobs))

    def _call(self, shape_JFK: torch.Size) -> "DecoderCall":
        """The captured call with room for these codes, which is made at its first use."""
        num_jobs, num_frames, num_codebooks = shape_JFK
        key = DecoderKey(power_of_two(num_jobs), num_frames)
        if key not in self._calls:
            call = self._calls[key] = DecoderCall.empty(key, num_codebooks, self._decoder)
            call.slots_R.fill_(self._idle_slot)
            self._runtime.capture(key, partial(call.run, self._decoder, self._state))
        return self._calls[key]

    def _run(self, call: "DecoderCall", codes_JFK: Tensor, jobs: Sequence[DecodeJob]) -> Tensor:
        num_rows, num_jobs = len(call.slots_R), len(jobs)
        slots = [job.slot for job in jobs] + [self._idle_slot] * (num_rows - num_jobs)
        fresh = [job.is_first for job in jobs] + [True] * (num_rows - num_jobs)
        call.slots_R.copy_(self._runtime.upload(np.array(slots)))
        call.fresh_R.copy_(self._runtime.upload(np.array(fresh)))
        call.codes_RFK[:num_jobs] = codes_JFK.clamp_min(0)
        graph = self._runtime.graph(call.key)
        if graph is not None:
            graph.replay()
        else:
            call.run(self._decoder, self._state)
        return call.samples_RN[:num_jobs].clone()

    def _trimmed(
        self, jobs: Sequence[DecodeJob], *pieces_JN: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        frame_samples = self._decoder.config.frame_samples
        rows = (row_N for piece_JN in pieces_JN for row_N in piece_JN)
        return [
            row_N[: job.num_frames * frame_samples] for row_N, job in zip(rows, jobs, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class DecoderCall:
    """Input and output of one call of the decoder; a graph finds them where they are."""

    key: DecoderKey
    slots_R: Tensor
    fresh_R: Tensor
    codes_RFK: Tensor
    samples_RN: Tensor

    @classmethod
    def empty(cls, key: DecoderKey, num_codebooks: int, decoder: MimiDecoder) -> Self:
        shape_RF, device = (key.num_rows, key.num_frames), decoder.device
        num_samples = key.num_frames * decoder.config.frame_samples
        return cls(
            key,
            torch.zeros(key.num_rows, dtype=torch.int64, device=device),
            torch.ones(key.num_rows, dtype=torch.bool, device=device),
            torch.zeros(*shape_RF, num_codebooks, dtype=torch.int64, device=device),
            torch.zeros(key.num_rows, num_samples, device=device),
        )

    def run(self, decoder: MimiDecoder, state: DecoderState) -> None:
        """Decode with the state of these slots; two rows without a job share one."""
        rows = state.rows(self.slots_R)
        rows.reset(self.fresh_R)
        self.samples_RN.copy_(decoder.decode(self.codes_RFK, rows).clamp(-1, 1))
        state.put(self.slots_R, rows)
