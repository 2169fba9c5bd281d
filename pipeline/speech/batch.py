"""Texts in the slots of one model: begun at any step, fed step by step, decoded in pieces.

S slots, F frames, K codebooks, P frames of an audio prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

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
from nightscribe.model.tts.text_to_speech import SpeechState, Text, TextToSpeech
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


@dataclass(slots=True, eq=False)
class Batch:
    """The slots of a speaker, each with a text or free."""

    speaker: Speaker
    num_slots: int
    num_slot_steps: int = 0  # of all slots, with or without a text
    num_live_steps: int = 0
    running: dict[int, Utterance] = field(default_factory=dict)
    _state: SpeechState = field(init=False)

    def __post_init__(self) -> None:
        self._state = self.speaker.model.initial_state(self.num_slots)

    @property
    def is_full(self) -> bool:
        return len(self.running) == self.num_slots

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
        self.speaker.model.begin(self._state, slot, text)
        self.running[slot] = Utterance(
            request=request,
            slot=slot,
            entries=entries,
            num_prompt_frames=0 if prompt_PK is None else len(prompt_PK),
            frames_per_piece=frames_per_piece,
            decoding=self.speaker.decoder.initial_state(1, frames_per_piece),
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
        self._state.machine.continue_with(utterance.slot, whole)

    def remove(self, utterance: Utterance) -> None:
        """Free the slot of a text, spoken or not."""
        if self.running.get(utterance.slot) is utterance:
            del self.running[utterance.slot]
            self.speaker.model.end(self._state, utterance.slot)

    def step(self) -> list[Utterance]:
        """One step of every slot whose text is here; the texts that moved."""
        words_ahead = self.speaker.model.config.words_ahead
        moving = {slot: one for slot, one in self.running.items() if one.may_step(words_ahead)}
        if not moving:
            return []
        held = [slot for slot in self.running if slot not in moving]
        output = self.speaker.model.step(self._state, held=held)
        codes_SK = output.codes_SK.cpu()
        consumed, ends = output.consumed_S.tolist(), output.ends_S.tolist()
        for slot, utterance in moving.items():
            if consumed[slot]:
                utterance.consumed_at.append(len(utterance.codes))
            utterance.codes.append(codes_SK[slot])
            utterance.end_step = ends[slot]
            self._decode_if_due(utterance)
        self.num_slot_steps += self.num_slots
        self.num_live_steps += len(moving)
        return list(moving.values())

    def is_complete(self, utterance: Utterance) -> bool:
        """Whether its last frame has been decoded."""
        return utterance.num_decoded == utterance.num_frames()

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

    def _decode_if_due(self, utterance: Utterance) -> None:
        end, num_frames = len(utterance.codes) - self.speaker.delay_steps, utterance.num_frames()
        num_due = end - utterance.num_decoded
        if num_due >= utterance.frames_per_piece or (num_due > 0 and end == num_frames):
            codes_FK = self._frames(utterance, utterance.num_decoded, end)
            decoder = self.speaker.decoder
            device = decoder.semantic.codewords_KVW.device
            samples_1N = decoder.decode(codes_FK[None].to(device), utterance.decoding)
            utterance.add(samples_1N[0].clamp(-1, 1).cpu().numpy())
            utterance.num_decoded = end

    def _frames(self, utterance: Utterance, first: int, end: int) -> Tensor:
        """Audio frames FK of an utterance, each codebook taken at its delay."""
        config = self.speaker.model.config
        start = config.audio_delay_steps
        delays = config.codebook_delays[: self.speaker.model.num_codebooks]
        last = start + end + max(delays)
        codes_NK = torch.stack(utterance.codes[start + first : last])
        columns = [codes_NK[delay : delay + end - first, k] for k, delay in enumerate(delays)]
        return torch.stack(columns, dim=-1)


def _prompt_of(voices: list[Voice]) -> Tensor | None:
    prompts = [voice.prompt_PK for voice in voices if voice.prompt_PK is not None]
    if len(prompts) > 1:
        raise ConditionError("this model continues one recording: give one voice")
    return prompts[0] if prompts else None
