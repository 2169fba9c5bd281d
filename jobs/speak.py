"""`nightscribe speak TEXT voice=NAME out=FILE`: speak a text with a text-to-speech model."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.encode import format_of, write_audio
from nightscribe.jobs.file import samples_of
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.speech_output import SPEAKERS, STANDARD, speech_output
from nightscribe.jobs.shell.typed_text import typed_text
from nightscribe.options import check_options, group, option
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.texts import SPEAKER_CHANGE

if TYPE_CHECKING:
    from nightscribe.speech.synthesizer import Speech, SpeechRequest, Synthesizer


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakConfig:
    """Speak a text with a text-to-speech model; a | in the text changes the speaker."""

    text: str = option(
        MISSING,
        "the text; - reads standard input, and with out=- or out=speakers speaks it while it comes",
    )
    out: str = option(
        "speech.wav",
        "audio file (wav, flac, opus, mp3); - writes raw 16-bit samples and speakers plays them, "
        "while they are made",
    )
    voice: str = option(
        "expresso/ex03-ex01_happy_001_channel1_334s.wav",
        "voice of the first speaker: a name in tts.voices, a voice file, a file of the hub as "
        "hf://ORGANISATION/NAME/FILE, or for models that "
        "continue a recording an audio file",
        common=True,
    )
    other_voice: str | None = option(None, "voice of the second speaker of a dialogue")
    words: bool = option(False, "also write the words with their times, as OUT.json")
    seed: int = option(0, "other seeds speak the text in another way", minimum=0)
    tts: SpeechModelConfig = group(
        lambda: SpeechModelConfig(checkpoint=MISSING), "which text-to-speech model"
    )
    speech: SpeechConfig = group(SpeechConfig, "device, precision and sampling")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits, for recordings of voices")

    def __post_init__(self) -> None:
        check_options(self)
        if self.out not in (STANDARD, SPEAKERS):
            format_of(Path(self.out))
        elif self.words:
            raise ValueError(f"words=true needs an audio file, not out={self.out}")


def run_speak(config: SpeakConfig) -> int:
    """Write the sound, and what it is to stderr."""
    if config.out in (STANDARD, SPEAKERS):
        return _speak_live(config)
    _check_folder(Path(config.out))
    request = _request(config)
    synthesizer = _synthesizer(config, request.turns)
    speech = _spoken(synthesizer, request)
    write_audio(Path(config.out), speech.samples_N, speech.sample_rate_hz)
    if config.words:
        Path(f"{config.out}.json").write_text(_words(speech), encoding="utf-8")
    sys.stderr.write(f"{config.out}: {speech.duration_s:.2f} s, {len(speech.words)} words\n")
    return 0


def _request(config: SpeakConfig) -> "SpeechRequest":
    from nightscribe.speech.synthesizer import SpeechRequest

    text = sys.stdin.read() if config.text == STANDARD else config.text
    return SpeechRequest(
        request_id=config.out,
        turns=tuple(text.split(SPEAKER_CHANGE)),
        voices=_voices(config),
        seed=config.seed,
    )


def _synthesizer(config: SpeakConfig, turns: Sequence[str] = ()) -> "Synthesizer":
    """The model. A wrong text or name of a voice is refused before the weights are read."""
    from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
    from nightscribe.model.tts.script import script_entries
    from nightscribe.speech.synthesizer import Synthesizer, script_options
    from nightscribe.speech.voices import Voices

    checkpoint = open_speech_checkpoint(config.tts.checkpoint)
    rate_hz = checkpoint.config.mimi.sample_rate_hz

    def read_audio(path: Path) -> NDArray[np.int16]:
        return samples_of(str(path), None, config.decode, rate_hz)[0]

    voices = Voices(checkpoint, config.tts.voices, read_audio)
    if turns:
        options = script_options(checkpoint.config, config.speech)
        script_entries(turns, checkpoint.tokenizer.encode, options)
    for name in _voices(config):
        voices[name]
    one_slot = replace(config.speech, num_slots=1)
    return Synthesizer.load(checkpoint, voices, one_slot, config.tts.guidance)


def _spoken(synthesizer: "Synthesizer", request: "SpeechRequest") -> "Speech":
    from nightscribe.speech.requests import NotSpokenError, SpeechFailure

    (result,) = synthesizer.speak([request])
    if isinstance(result, SpeechFailure):
        raise NotSpokenError("not_spoken", result.detail)
    return result


def _speak_live(config: SpeakConfig) -> int:
    """Play or write samples while they are made; text of a pipe is spoken while it comes."""
    from nightscribe.speech.live import END_OF_TEXT, live_speech

    is_typed = config.text == STANDARD
    synthesizer = _synthesizer(config, () if is_typed else _request(config).turns)
    if is_typed:
        pieces = typed_text(sys.stdin, END_OF_TEXT)
        sound = live_speech(synthesizer, _voices(config), config.seed, pieces)
    else:
        sound = synthesizer.stream(_request(config))
    with speech_output(config.out, synthesizer.sample_rate_hz) as play:
        for samples_N in sound:
            play(samples_N)
    return 0


def _voices(config: SpeakConfig) -> tuple[str, ...]:
    return tuple(name for name in (config.voice, config.other_voice) if name is not None)


def _check_folder(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.absolute().parent}")


def _words(speech: "Speech") -> str:
    words = [
        {"text": word.text, "start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3)}
        for word in speech.words
    ]
    return json.dumps({"duration_s": round(speech.duration_s, 3), "words": words}, indent=2) + "\n"


JOB = Job(name="speak", config=SpeakConfig, run=run_speak, positional=("text",))
