"""`nightscribe evaluate texts=MANIFEST tts=NAME model=NAME`: speak, listen, compare.

The published way to judge a text-to-speech model: what a speech-to-text model hears of it.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.encode import as_int16
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.score_tables import score_tables
from nightscribe.jobs.shell.terminal import console
from nightscribe.jobs.synthesize import read_voice
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.options import check_options, group, option
from nightscribe.reading.evaluation import EvaluatedFile, evaluate, rows, totals
from nightscribe.reading.references import Reference
from nightscribe.records import Word
from nightscribe.scoring.word_errors import TextPair
from nightscribe.scoring.word_times import start_shifts_s
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.texts import TextDefaults, request_of, texts
from nightscribe.storage.s3 import S3Config

if TYPE_CHECKING:
    from nightscribe.speech.requests import Speech, SpeechFailure, SpeechRequest
    from nightscribe.speech.synthesizer import Synthesizer
    from nightscribe.transcription.clips import Clip

SURE = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateTtsConfig:
    """Speak texts, transcribe the sound, and score it against the texts and their word times."""

    texts: str = option(MISSING, "manifest (CSV, JSONL, Parquet) with text or turns, as synthesize")
    out: str | None = option(None, "JSON file for the scores and both texts of each row")
    limit: int | None = option(None, "evaluate only the first texts", minimum=1, common=True)
    language: str = option("en", "language of the texts")
    num_worst: int = option(10, "how many of the worst texts to list", minimum=0)
    num_confusions: int = option(
        10, "how many substitutions, deletions and insertions to list", minimum=0
    )
    voice: str = option(
        "expresso/ex03-ex01_happy_001_channel1_334s.wav",
        "voice of texts whose row names none",
        common=True,
    )
    other_voice: str | None = option(None, "voice of the second speaker of such texts")
    seed: int = option(0, "seed of texts whose row has none", minimum=0)
    tts: SpeechModelConfig = group(
        lambda: SpeechModelConfig(checkpoint=MISSING), "which text-to-speech model"
    )
    speech: SpeechConfig = group(SpeechConfig, "device, precision and sampling of speech")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model listens")
    engine: EngineConfig = group(EngineConfig, "device, precision and batch size of it")
    guards: GuardsConfig = group(GuardsConfig, "thresholds of the guards")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits, for recordings of voices")
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(slots=True)
class _Spoken:
    """What was spoken and not compared yet, and what was not spoken."""

    speeches: dict[str, "Speech"] = field(default_factory=dict)
    failures: list["SpeechFailure"] = field(default_factory=list)


def evaluate_tts(config: EvaluateTtsConfig) -> int:
    """Print the scores; the rates count texts that could not be spoken as not heard."""
    from nightscribe.transcription.transcriber import Transcriber

    synthesizer = _synthesizer(config)
    transcriber = Transcriber.load(config.model, config.engine, config.guards)
    spoken, compared = _Spoken(), []
    for heard in transcriber.transcribe(_clips(config, synthesizer, spoken)):
        speech = spoken.speeches.pop(heard.clip_id)
        compared.append(_compared(config, speech.request, speech, heard.words))
    for failure in spoken.failures:
        sys.stderr.write(f"nightscribe: {failure.request.request_id}: {failure.detail}\n")
        compared.append(_compared(config, failure.request, None, ()))
    evaluation = evaluate(compared, ())
    total, by_text = totals(evaluation), rows(evaluation)
    terminal = console()
    for table in score_tables(total, by_text, config.num_worst, config.num_confusions):
        terminal.print(table)
    if config.out is not None:
        _write(Path(config.out), total, by_text)
    return 0


def _synthesizer(config: EvaluateTtsConfig) -> "Synthesizer":
    from nightscribe.model.checkpoints.open import open_model
    from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
    from nightscribe.speech.synthesizer import Synthesizer
    from nightscribe.speech.voices import Voices

    checkpoint = open_speech_checkpoint(config.tts.checkpoint)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    heard_hz = open_model(config.model).config.mimi.sample_rate_hz
    if heard_hz != rate_hz:
        raise ValueError(f"the models have different sample rates: {rate_hz} and {heard_hz} Hz")
    voices = Voices(checkpoint, config.tts.voices, partial(read_voice, config.decode, rate_hz))
    return Synthesizer.load(checkpoint, voices, config.speech, config.tts.guidance)


def _clips(
    config: EvaluateTtsConfig, synthesizer: "Synthesizer", spoken: _Spoken
) -> Iterator["Clip"]:
    """The sound of each text, when the listener has room for it."""
    from nightscribe.speech.requests import SpeechFailure
    from nightscribe.transcription.clips import Clip

    defaults = TextDefaults(voice=config.voice, other_voice=config.other_voice, seed=config.seed)
    found = texts(config.texts, config.s3, defaults, str)
    for result in synthesizer.speak(map(request_of, islice(found, config.limit))):
        if isinstance(result, SpeechFailure):
            spoken.failures.append(result)
            continue
        name = result.request.request_id
        spoken.speeches[name] = result
        yield Clip(name, as_int16(result.samples_N))


def _compared(
    config: EvaluateTtsConfig,
    request: "SpeechRequest",
    speech: "Speech | None",
    heard: tuple[Word, ...],
) -> EvaluatedFile:
    text = " ".join(request.turns)
    said = () if speech is None else speech.words
    reference_words = tuple(Word(word.text, word.start_s, word.end_s, SURE) for word in said)
    name, duration_s = request.request_id, 0.0 if speech is None else speech.duration_s
    hypothesis = " ".join(word.text for word in heard)
    return EvaluatedFile(
        pair=TextPair(name, " ".join(w.text for w in said) or text, hypothesis, duration_s),
        reference=Reference(text=text, words=reference_words),
        name=name,
        language=config.language,
        domain=None,
        shifts_s=tuple(start_shifts_s(reference_words, heard)),
    )


def _write(path: Path, total: dict[str, Any], by_text: list[dict[str, Any]]) -> None:
    document = json.dumps({"totals": total, "texts": by_text}, indent=2, ensure_ascii=False)
    path.write_text(document + "\n", encoding="utf-8")


EVALUATE_TTS = Job(name="evaluate_tts", config=EvaluateTtsConfig, run=evaluate_tts)
