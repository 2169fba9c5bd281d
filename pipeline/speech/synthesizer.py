"""Continuous batching of texts: when one ends, its slot takes the next at the following step.

K codebooks, N samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.text_to_speech import SpeechCheckpoint
from nightscribe.model.device import DTYPES, capability_of, device_of
from nightscribe.model.mimi_decoder import DecoderState, MimiDecoder
from nightscribe.model.precision import precision_of
from nightscribe.model.tokenizer import Tokenizer
from nightscribe.model.tts.conditioning import ConditionError, guidance_value
from nightscribe.model.tts.config import TextToSpeechConfig
from nightscribe.model.tts.sampling import SpeechSampling
from nightscribe.model.tts.script import Entry, FlatScript, ScriptOptions, script_entries
from nightscribe.model.tts.text_machine import NO_END
from nightscribe.model.tts.text_to_speech import SpeechOptions, SpeechState, Text, TextToSpeech
from nightscribe.speech.config import SpeechConfig
from nightscribe.speech.voices import Voice, Voices

FINAL_FRAMES = 4  # of audio after the last word has been fed
FRAMES_PER_PIECE = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """A text to speak: turns of two speakers who alternate, and a voice for each."""

    request_id: str
    turns: tuple[str, ...]
    voices: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word as written, and when it is spoken."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Speech:
    """What was spoken."""

    request: SpeechRequest
    sample_rate_hz: int
    samples_N: NDArray[np.float32]
    words: tuple[SpokenWord, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples_N) / self.sample_rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechFailure:
    """Why a text was not spoken."""

    request: SpeechRequest
    detail: str


@dataclass(slots=True)
class _Utterance:
    """A text in a slot, and what it has produced so far."""

    request: SpeechRequest
    entries: list[Entry]
    num_prompt_frames: int
    codes: list[Tensor] = field(default_factory=list)  # of every step, with delays
    consumed_at: list[int] = field(default_factory=list)  # the step at which each entry began
    end_step: int = NO_END

    def num_frames(self) -> int | None:
        """All its frames, once it is known where it ends."""
        return None if self.end_step == NO_END else self.end_step + FINAL_FRAMES


class Synthesizer:
    """A model on a device that speaks many texts at a time."""

    def __init__(
        self,
        model: TextToSpeech,
        decoder: MimiDecoder,
        tokenizer: Tokenizer,
        voices: Voices,
        config: SpeechConfig,
        guidance: float | None,
    ) -> None:
        self._model, self._decoder = model, decoder
        self._tokenizer, self._voices = tokenizer, voices
        self._num_slots = config.num_slots
        self._guidance = guidance
        self._script = ScriptOptions(
            frame_rate_hz=model.config.mimi.frame_rate_hz,
            has_speakers=model.config.speakers is not None,
            word_padding=config.word_padding,
        )

    @classmethod
    def load(
        cls,
        checkpoint: SpeechCheckpoint,
        voices: Voices,
        config: SpeechConfig,
        guidance: float | None,
    ) -> Self:
        """Read the weights; raises ValueError for options that the model cannot follow."""
        device = device_of(config.device)
        dtype = precision_of(config.dtype, "auto", capability_of(device), str(device)).activations
        needs_pass = guidance not in (None, 1.0) and not checkpoint.config.has_guidance_condition
        options = SpeechOptions(
            num_codebooks=_num_codebooks(checkpoint.config, config.num_codebooks),
            sampling=SpeechSampling(temperature=config.temperature),
            guidance=guidance if needs_pass else None,
            padding_bonus=config.padding_bonus,
        )
        tensors = checkpoint.model_tensors()
        model = TextToSpeech.load(checkpoint.config, tensors, device, DTYPES[dtype], options)
        decoder_tensors = checkpoint.mimi_decoder_tensors()
        decoder = MimiDecoder.load(checkpoint.config.mimi, decoder_tensors, device)
        return cls(model, decoder, checkpoint.tokenizer, voices, config, guidance)

    @property
    def sample_rate_hz(self) -> int:
        return self._model.config.mimi.sample_rate_hz

    def speak(self, requests: Iterable[SpeechRequest]) -> Iterator[Speech | SpeechFailure]:
        """Every text once, in the order in which they end."""
        waiting = iter(requests)
        state = self._model.initial_state(self._num_slots)
        failures: deque[SpeechFailure] = deque()
        running: dict[int, _Utterance] = {}
        while True:
            self._fill(state, running, waiting, failures)
            yield from failures
            failures.clear()
            if not running:
                return
            self._step(state, running)
            for slot, utterance in list(running.items()):
                if self._is_complete(utterance):
                    self._model.end(state, slot)
                    yield self._speech(running.pop(slot))

    def stream(self, request: SpeechRequest) -> Iterator[NDArray[np.float32]]:
        """One text, a frame of sound at a time, as soon as it is known.

        Raises NightscribeError where `speak` would give a failure.
        """
        state = self._model.initial_state(1)
        utterance = self._begin(state, 0, request)
        decoding, running = self._decoder.initial_state(1, 1), {0: utterance}
        first_step = self._delay_steps
        while not self._is_complete(utterance):
            self._step(state, running)
            frame = len(utterance.codes) - 1 - first_step
            if frame >= utterance.num_prompt_frames:
                yield self._decoded(self._frames(utterance, frame, frame + 1), decoding)

    @property
    def _delay_steps(self) -> int:
        """Steps from a text token until its frame of audio has all its codes."""
        config = self._model.config
        return config.audio_delay_steps + config.max_codebook_delay

    def _fill(
        self,
        state: SpeechState,
        running: dict[int, _Utterance],
        waiting: Iterator[SpeechRequest],
        failures: deque[SpeechFailure],
    ) -> None:
        """Begin texts in the free slots; those that cannot be spoken are failures."""
        for slot in range(self._num_slots):
            while slot not in running:
                request = next(waiting, None)
                if request is None:
                    return
                try:
                    running[slot] = self._begin(state, slot, request)
                except NightscribeError as error:
                    failures.append(SpeechFailure(request=request, detail=str(error)))

    def _begin(self, state: SpeechState, slot: int, request: SpeechRequest) -> _Utterance:
        config = self._model.config
        entries = script_entries(request.turns, self._tokenizer.encode, self._script)
        voices = [self._voices[name] for name in request.voices]
        prompt_PK = self._prompt_of(voices)
        text = Text(
            script=FlatScript.of(entries, config.words_ahead),
            voices=[voice.vectors_WT for voice in voices if voice.vectors_WT is not None],
            audio_prompt_PK=prompt_PK,
            values=self._values(),
            seed=request.seed,
        )
        self._model.begin(state, slot, text)
        return _Utterance(request, entries, 0 if prompt_PK is None else len(prompt_PK))

    def _prompt_of(self, voices: list[Voice]) -> Tensor | None:
        prompts = [voice.prompt_PK for voice in voices if voice.prompt_PK is not None]
        if len(prompts) > 1:
            raise ConditionError("this model continues one recording: give one voice")
        return prompts[0] if prompts else None

    def _values(self) -> dict[str, str | None]:
        scale = None if self._guidance is None else guidance_value(self._guidance)
        return {"control": "ok", "cfg": scale}

    def _step(self, state: SpeechState, running: dict[int, _Utterance]) -> None:
        output = self._model.step(state)
        codes_SK = output.codes_SK.cpu()
        consumed, ends = output.consumed_S.tolist(), output.ends_S.tolist()
        for slot, utterance in running.items():
            if consumed[slot]:
                utterance.consumed_at.append(len(utterance.codes))
            utterance.codes.append(codes_SK[slot])
            utterance.end_step = ends[slot]

    def _is_complete(self, utterance: _Utterance) -> bool:
        num_frames = utterance.num_frames()
        return num_frames is not None and len(utterance.codes) >= num_frames + self._delay_steps

    def _speech(self, utterance: _Utterance) -> Speech:
        num_frames = utterance.num_frames()
        assert num_frames is not None
        codes_FK = self._frames(utterance, utterance.num_prompt_frames, num_frames)
        decoding = self._decoder.initial_state(1, FRAMES_PER_PIECE)
        return Speech(
            request=utterance.request,
            sample_rate_hz=self.sample_rate_hz,
            samples_N=self._decoded(codes_FK, decoding),
            words=tuple(self._words(utterance)),
        )

    def _frames(self, utterance: _Utterance, first: int, end: int) -> Tensor:
        """Audio frames FK of an utterance, each codebook taken at its delay."""
        config = self._model.config
        start = config.audio_delay_steps
        delays = config.codebook_delays[: self._model.num_codebooks]
        last = start + end + max(delays)
        codes_NK = torch.stack(utterance.codes[start + first : last])
        columns = [codes_NK[delay : delay + end - first, k] for k, delay in enumerate(delays)]
        return torch.stack(columns, dim=-1)

    def _decoded(self, codes_FK: Tensor, decoding: DecoderState) -> NDArray[np.float32]:
        device = self._decoder.semantic.codewords_KVW.device
        samples_1N = self._decoder.decode(codes_FK[None].to(device), decoding)
        return samples_1N[0].clamp(-1, 1).cpu().numpy()

    def _words(self, utterance: _Utterance) -> Iterator[SpokenWord]:
        """A word lasts until the next entry begins; times count from the first sample."""
        ends = [*utterance.consumed_at[1:], utterance.end_step]
        times = zip(utterance.entries, utterance.consumed_at, ends, strict=True)
        rate_hz, first = self._script.frame_rate_hz, utterance.num_prompt_frames
        for entry, start_step, end_step in times:
            if entry.tokens:
                start_s, end_s = ((step - first) / rate_hz for step in (start_step, end_step))
                yield SpokenWord(entry.text, start_s, end_s)


def _num_codebooks(config: TextToSpeechConfig, asked: int | None) -> int | None:
    if asked is not None and asked > config.num_codebooks:
        raise ConditionError(
            f"speech.num_codebooks must be at most {config.num_codebooks} for this model, "
            f"not {asked}"
        )
    return asked
