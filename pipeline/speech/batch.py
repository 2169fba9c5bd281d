"""Texts in the slots of one model: begun at any step, fed step by step, decoded in pieces.

S slots, N samples, K codebooks, P frames of an audio prompt.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.model.cuda_graphs import PendingCopy
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.tokenizer import Tokenizer
from nightscribe.model.tts.conditioning import ConditionError, guidance_value
from nightscribe.model.tts.script import (
    Entry,
    FlatScript,
    ScriptOptions,
    check_length,
    script_entries,
    turn_entries,
)
from nightscribe.model.tts.speech_runner import DecodeJob, SpeechRunner, StepEvents
from nightscribe.model.tts.text_to_speech import Text, TextToSpeech
from nightscribe.speech.requests import SpeechRequest, SpokenWord
from nightscribe.speech.utterance import FedEntry, Utterance
from nightscribe.speech.voices import Voice, Voices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Speaker:
    """A model with everything that turns requests into its inputs."""

    model: TextToSpeech
    decoder: MimiDecoder
    tokenizer: Tokenizer
    voices: Voices
    script: ScriptOptions
    guidance: float | None

    def entries(self, turns: Sequence[str]) -> list[Entry]:
        """The words and breaks of a text; raises ScriptError if it cannot be spoken."""
        return script_entries(turns, self.tokenizer.encode, self.script)

    @property
    def delay_steps(self) -> int:
        """Steps from a text token until its frame of audio has all its codes."""
        config = self.model.config
        return config.audio_delay_steps + config.max_codebook_delay


class _Queued(NamedTuple):
    """A step that the device does, and the texts that it moves on."""

    moving: list[Utterance]
    events: PendingCopy[StepEvents]


class _Decoding(NamedTuple):
    """Pieces of some texts that the device decodes."""

    pieces: list[tuple[Utterance, int]]  # frames of each
    samples: PendingCopy[list[NDArray[np.float32]]]


@dataclass(slots=True, eq=False)
class Batch:
    """The slots of a speaker, each with a text or free."""

    speaker: Speaker
    num_slots: int
    use_graphs: bool = True  # CUDA graphs, on a GPU
    num_slot_steps: int = 0  # of all slots, with or without a text
    num_live_steps: int = 0
    running: dict[int, Utterance] = field(default_factory=dict)
    _runner: SpeechRunner = field(init=False)
    _queued: deque[_Queued] = field(default_factory=deque)
    _decoding: deque[_Decoding] = field(default_factory=deque)

    def __post_init__(self) -> None:
        speaker = self.speaker
        self._runner = SpeechRunner(speaker.model, speaker.decoder, self.num_slots, self.use_graphs)

    @property
    def is_full(self) -> bool:
        return len(self.running) == self.num_slots

    @property
    def is_idle(self) -> bool:
        """Whether nothing happens until more text comes."""
        return not (self._queued or self._decoding or self._moving())

    def begin(
        self, request: SpeechRequest, frames_per_piece: int, is_whole: bool = True
    ) -> Utterance:
        """Put a text into a free slot; one that is not whole is continued by `extend`.

        Raises NightscribeError for a text or a voice that cannot be spoken.
        """
        entries = self.speaker.entries(request.turns) if is_whole or request.turns else []
        slot = next(slot for slot in range(self.num_slots) if slot not in self.running)
        voices = [self.speaker.voices[name] for name in request.voices]
        prompt_PK = _prompt_of(voices)
        text = self._text(request, entries, voices, prompt_PK)
        self._runner.begin(slot, text)
        self.running[slot] = Utterance(
            request=request,
            slot=slot,
            entries=entries,
            num_prompt_frames=0 if prompt_PK is None else len(prompt_PK),
            frames_per_piece=frames_per_piece,
            delay_steps=self.speaker.delay_steps,
            is_whole=is_whole,
        )
        return self.running[slot]

    def extend(self, utterance: Utterance, text: str, speaker: int = 0) -> None:
        """Append whole words of a speaker, 0 or 1; raises ScriptError if they cannot be spoken."""
        check_length(len(text) + sum(len(entry.text) + 1 for entry in utterance.entries))
        script, encode = self.speaker.script, self.speaker.tokenizer.encode
        is_change = script.has_speakers and speaker != utterance.last_speaker
        new = list(turn_entries(text, encode, script, speaker, is_change))
        if any(entry.text for entry in new):
            utterance.last_speaker = speaker
        utterance.entries += new
        whole = FlatScript.of(utterance.entries, self.speaker.model.config.words_ahead)
        self._runner.extend(utterance.slot, whole)

    def remove(self, utterance: Utterance) -> None:
        """Free the slot of a text, spoken or not."""
        if self._is_running(utterance):
            del self.running[utterance.slot]
            self._runner.end(utterance.slot)

    def step(self) -> list[Utterance]:
        """Queue a step of every slot whose text is here; the texts of which more is known now.

        A GPU works on one step while the host hears of the one before it.
        """
        heard: dict[Utterance, None] = {}
        if any(one.num_queued > one.num_steps and not one.is_whole for one in self._held()):
            self._hear(heard, num_ahead=0)  # whether their text is here depends on it
        moving = self._moving()
        if moving:
            self._queued.append(_Queued(moving, self._runner.step([one.slot for one in moving])))
            for utterance in moving:
                utterance.num_queued += 1
            self.num_slot_steps += self.num_slots
            self.num_live_steps += len(moving)
        self._hear(heard, num_ahead=self._runner.steps_ahead if moving else 0)
        return [utterance for utterance in heard if self._is_running(utterance)]

    def _moving(self) -> list[Utterance]:
        words_ahead = self.speaker.model.config.words_ahead
        return [one for one in self.running.values() if one.may_step(words_ahead)]

    def _held(self) -> list[Utterance]:
        moving = self._moving()
        return [one for one in self.running.values() if one not in moving]

    def _is_running(self, utterance: Utterance) -> bool:
        return self.running.get(utterance.slot) is utterance

    def _hear(self, heard: dict[Utterance, None], num_ahead: int) -> None:
        """Wait for all steps but the newest ones, and for what was decoded before them."""
        while len(self._queued) > num_ahead:
            queued = self._queued.popleft()
            consumed_S, ends_S = queued.events.wait()
            for utterance in filter(self._is_running, queued.moving):
                slot = utterance.slot
                utterance.note_step(bool(consumed_S[slot]), int(ends_S[slot]))
                heard[utterance] = None
            self._decode_due()
        while len(self._decoding) > num_ahead:
            decoded = self._decoding.popleft()
            for (utterance, num_frames), samples_N in zip(
                decoded.pieces, decoded.samples.wait(), strict=True
            ):
                utterance.add(samples_N, num_frames)
                heard[utterance] = None

    def _decode_due(self) -> None:
        """Queue the pieces that are due, those of one length together."""
        due: dict[int, list[tuple[Utterance, int]]] = {}
        for utterance in self.running.values():
            if num_frames := utterance.due_frames():
                due.setdefault(utterance.frames_per_piece, []).append((utterance, num_frames))
        for frames_per_piece, pieces in due.items():
            jobs = [_job(*piece) for piece in pieces]
            samples = self._runner.decode(jobs, frames_per_piece)
            self._decoding.append(_Decoding(pieces, samples))

    def word_of(self, utterance: Utterance, fed: FedEntry) -> SpokenWord:
        """Times count from the first sample."""
        rate_hz, first = self.speaker.script.frame_rate_hz, utterance.num_prompt_frames
        start_s, end_s = ((step - first) / rate_hz for step in (fed.start_step, fed.end_step))
        return SpokenWord(fed.entry.text, start_s, end_s, is_break=not fed.entry.tokens)

    def _text(
        self,
        request: SpeechRequest,
        entries: list[Entry],
        voices: list[Voice],
        prompt_PK: Tensor | None,
    ) -> Text:
        guidance = self.speaker.guidance
        scale = None if guidance is None else guidance_value(guidance)
        return Text(
            script=FlatScript.of(entries, self.speaker.model.config.words_ahead),
            voices=[voice.vectors_WT for voice in voices if voice.vectors_WT is not None],
            audio_prompt_PK=prompt_PK,
            values={"control": "ok", "cfg": scale},
            seed=request.seed,
        )


def _job(utterance: Utterance, num_frames: int) -> DecodeJob:
    """The next frames of a text, which are then being decoded."""
    first = utterance.num_decoding
    utterance.num_decoding += num_frames
    is_first = first == utterance.num_prompt_frames
    return DecodeJob(utterance.slot, first, num_frames, is_first)


def _prompt_of(voices: list[Voice]) -> Tensor | None:
    prompts = [voice.prompt_PK for voice in voices if voice.prompt_PK is not None]
    if len(prompts) > 1:
        raise ConditionError("this model continues one recording: give one voice")
    return prompts[0] if prompts else None
