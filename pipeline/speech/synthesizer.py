"""Continuous batching of texts: when one ends, its slot takes the next at the following step.

N samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.text_to_speech import SpeechCheckpoint
from nightscribe.model.device import DTYPES, capability_of, device_of
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.precision import precision_of
from nightscribe.model.tts.conditioning import ConditionError, guidance_value
from nightscribe.model.tts.config import TextToSpeechConfig
from nightscribe.model.tts.sampling import SpeechSampling
from nightscribe.model.tts.script import ScriptOptions
from nightscribe.model.tts.text_to_speech import SpeechOptions, TextToSpeech
from nightscribe.speech.batch import Batch, Speaker
from nightscribe.speech.config import SpeechConfig
from nightscribe.speech.requests import Speech, SpeechFailure, SpeechRequest, SpokenWord
from nightscribe.speech.utterance import Utterance
from nightscribe.speech.voices import Voices

__all__ = ["Speech", "SpeechFailure", "SpeechRequest", "SpokenWord", "Synthesizer"]

FRAMES_PER_PIECE = 25  # decoded together where nobody waits for the first one


class Synthesizer:
    """A model on a device that speaks many texts at a time."""

    def __init__(self, speaker: Speaker, num_slots: int) -> None:
        self.speaker, self.num_slots = speaker, num_slots

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
        options = options_of(checkpoint.config, config, guidance)
        tensors = checkpoint.model_tensors()
        model = TextToSpeech.load(checkpoint.config, tensors, device, DTYPES[dtype], options)
        decoder_tensors = checkpoint.mimi_decoder_tensors()
        speaker = Speaker(
            model=model,
            decoder=MimiDecoder.load(checkpoint.config.mimi, decoder_tensors, device),
            tokenizer=checkpoint.tokenizer,
            voices=voices,
            script=script_options(checkpoint.config, config),
            guidance=guidance,
        )
        return cls(speaker, config.num_slots)

    @property
    def sample_rate_hz(self) -> int:
        return self.speaker.model.config.mimi.sample_rate_hz

    def batch(self) -> Batch:
        """Free slots, for whoever begins and ends texts by themselves."""
        return Batch(self.speaker, self.num_slots)

    def speak(self, requests: Iterable[SpeechRequest]) -> Iterator[Speech | SpeechFailure]:
        """Every text once, in the order in which they end."""
        waiting, batch = iter(requests), self.batch()
        failures: deque[SpeechFailure] = deque()
        while True:
            _fill(batch, waiting, failures)
            yield from failures
            failures.clear()
            if not batch.running:
                return
            for utterance in batch.step():
                if utterance.is_complete:
                    batch.remove(utterance)
                    yield self.speech_of(batch, utterance)

    def stream(self, request: SpeechRequest) -> Iterator[NDArray[np.float32]]:
        """One text, a frame of sound at a time, as soon as it is known.

        Raises NightscribeError where `speak` would give a failure.
        """
        batch = Batch(self.speaker, 1)
        utterance = batch.begin(request, frames_per_piece=1)
        while not utterance.is_complete:
            batch.step()
            if len(samples_N := utterance.take_samples()):
                yield samples_N

    def speech_of(self, batch: Batch, utterance: Utterance) -> Speech:
        """What a complete text has become, if nothing of it was taken before."""
        words = (batch.word_of(utterance, fed) for fed in utterance.take_fed() if fed.entry.tokens)
        return Speech(
            request=utterance.request,
            sample_rate_hz=self.sample_rate_hz,
            samples_N=utterance.take_samples(),
            words=tuple(words),
            num_steps=utterance.num_steps,
        )


def _fill(batch: Batch, waiting: Iterator[SpeechRequest], failures: deque[SpeechFailure]) -> None:
    """Begin texts in the free slots; those that cannot be spoken are failures."""
    while not batch.is_full:
        request = next(waiting, None)
        if request is None:
            return
        try:
            batch.begin(request, FRAMES_PER_PIECE)
        except NightscribeError as error:
            failures.append(SpeechFailure(request=request, detail=str(error)))


def script_options(config: TextToSpeechConfig, asked: SpeechConfig) -> ScriptOptions:
    """How texts become words and breaks."""
    return ScriptOptions(
        frame_rate_hz=config.mimi.frame_rate_hz,
        has_speakers=config.speakers is not None,
        word_padding=asked.word_padding,
    )


def options_of(
    config: TextToSpeechConfig, asked: SpeechConfig, guidance: float | None
) -> SpeechOptions:
    """How the model speaks; raises ConditionError for what it cannot follow."""
    known = config.guidance_values
    if known and guidance is not None and guidance_value(guidance) not in known:
        raise ConditionError(
            f"tts.guidance must be one of {', '.join(known)} for this model, not {guidance:g}"
        )
    needs_pass = guidance not in (None, 1.0) and not config.has_guidance_condition
    return SpeechOptions(
        num_codebooks=_num_codebooks(config, asked.num_codebooks),
        sampling=SpeechSampling(temperature=asked.temperature),
        guidance=guidance if needs_pass else None,
        padding_bonus=asked.padding_bonus,
    )


def _num_codebooks(config: TextToSpeechConfig, asked: int | None) -> int | None:
    if asked is not None and asked > config.num_codebooks:
        raise ConditionError(
            f"speech.num_codebooks must be at most {config.num_codebooks} for this model, "
            f"not {asked}"
        )
    return asked
