"""`nightscribe file AUDIO`: transcribe one recording to the terminal, without Ray.

`transcribe`, `load_transcriber` and `read_audio` are for Python programs. Torch takes seconds to
import: functions do it once the command line is known to be right.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.shell.config import Job, configurations
from nightscribe.jobs.shell.few_streams import engine_for_one
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.terms_config import TermsConfig
from nightscribe.options import check_options, group, option
from nightscribe.records import Finding, Span, SpeakerSpan, Word
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    speakers_in,
    without_pauses,
)
from nightscribe.rendering.formats import FORMATS, TIME_DECIMALS, json_word, render
from nightscribe.speakers.config import SpeakersConfig

if TYPE_CHECKING:
    from nightscribe.model.prompting import Prompt
    from nightscribe.transcription.transcriber import Transcriber

STANDARD_INPUT = "-"
SAMPLE_RATE_HZ = 24_000  # of every published model


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """A prompt ahead of the recording; not every model follows it."""

    text: str = option("", "example text, forced ahead of the transcript", common=True)
    audio: str | None = option(
        None, "example audio file, played ahead of the recording", common=True
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FileConfig:
    """Transcribe one file of any format that ffmpeg can read."""

    audio: str = option(MISSING, "audio or video file; - reads a pipe")
    format: str = option("text", "output format", choices=tuple(FORMATS))
    tokens: bool = option(False, "with format=json: also the text token of each frame")
    channel: int | None = option(
        None, "transcribe this channel, counted from 0; null: the mix of all"
    )
    domain: str | None = option(
        None, "domain of the recording, one of model.domains; null: model.domain"
    )
    prompt: PromptConfig = group(PromptConfig, "example ahead of the recording")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model")
    engine: EngineConfig = group(EngineConfig, "device, precision and batch size")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits")
    guards: GuardsConfig = group(GuardsConfig, "thresholds of the guards")
    speakers: SpeakersConfig = group(SpeakersConfig, "who speaks: speakers=on")
    terms: TermsConfig = group(TermsConfig, "names and rare words to prefer")
    rendering: RenderingConfig = group(RenderingConfig, "paragraphs and subtitles")

    def __post_init__(self) -> None:
        check_options(self)
        if self.tokens and self.format != "json":
            raise ValueError(f"tokens=true needs format=json, not format={self.format}")
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"channel counts from 0, got {self.channel}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTranscript:
    """The words of one file, and what is doubtful about them."""

    uri: str
    duration_s: float
    words: list[Word]
    tokens: list[int]  # one for each frame of prefix, prompt, recording and flush
    findings: tuple[Finding, ...] = ()  # of the guards
    speaker_spans: tuple[SpeakerSpan, ...] = ()  # who speaks when, with speakers=on
    speech: tuple[Span, ...] = ()  # where voice activity was detected
    damage: str | None = None  # why only a part of the file could be decoded

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def transcribe(
    audio: str | Path, *, model: str, settings: Mapping[str, Any] | None = None
) -> FileTranscript:
    """Transcribe one file: `transcribe("talk.mp3", model="tiny").words`.

    `model` is a name of `conf/model`; `settings` are keys of `nightscribe file --help`, such as
    `{"engine.device": "cuda", "channel": 1}`. Every call loads the model: use `load_transcriber`
    for many recordings.
    """
    return transcribe_file(_config(audio, model, settings))


def load_transcriber(model: str, *, settings: Mapping[str, Any] | None = None) -> "Transcriber":
    """A model of `conf/model` on its device, for many clips: see `Transcriber.transcribe`."""
    from nightscribe.transcription.transcriber import Transcriber

    config = _config(STANDARD_INPUT, model, settings)
    terms = config.terms.read()
    return Transcriber.load(config.model, config.engine, config.guards, config.speakers, terms)


def read_audio(
    audio: str | Path, *, channel: int | None = None, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> NDArray[np.int16]:
    """The samples of a file at the rate of the models: one channel, or the mix of all."""
    return samples_of(str(audio), channel, DecodeConfig(), sample_rate_hz)[0]


def _config(audio: str | Path, model: str, settings: Mapping[str, Any] | None) -> FileConfig:
    given = {"audio": audio, "model": model, **(settings or {})}
    (config,) = configurations(JOB, [f"{key}={_as_word(value)}" for key, value in given.items()])
    return config


def _as_word(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def run_file(config: FileConfig) -> int:
    """Write the transcript to stdout, and what is doubtful about it to stderr."""
    transcript = transcribe_file(config)
    if transcript.damage is not None:
        sys.stderr.write(f"nightscribe: {config.audio} is incomplete: {transcript.damage}\n")
    for one in transcript.findings:
        where = f"{one.start_s:.1f}-{one.end_s:.1f} s"
        sys.stderr.write(f"nightscribe: {config.audio}: {one.guard} at {where}: {one.detail}\n")
    if not transcript.words:
        sys.stderr.write(f"nightscribe: {config.audio}: no words were recognised\n")
    sys.stdout.write(written(transcript, config))
    return 0


def transcribe_file(config: FileConfig) -> FileTranscript:
    """Transcribe as configured; raises ValueError where nothing can be decoded."""
    _check_there(config.audio)  # before seconds of imports
    from nightscribe.guards.inspection import inspect
    from nightscribe.model.checkpoints.open import open_model
    from nightscribe.speakers.diarization import diarize, with_speakers
    from nightscribe.transcription.transcriber import Clip, Transcriber

    terms = config.terms.read()
    checkpoint = open_model(config.model)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    # Decoding comes before the weights are loaded, which takes longer than to refuse a file.
    samples_N, damage = samples_of(config.audio, config.channel, config.decode, rate_hz)
    clip = Clip(config.audio, samples_N, prompt=_prompt(config, rate_hz))
    transcriber = Transcriber.from_checkpoint(
        checkpoint,
        config.model,
        engine_for_one(config.engine, has_terms=terms is not None),
        config.guards,
        config.speakers,
        terms,
    )
    (transcript,) = transcriber.transcribe([clip])
    inspection = inspect(transcript.words, transcript.speech, None, config.guards)
    spans = diarize(transcript.voices, config.speakers).spans
    return FileTranscript(
        uri=config.audio,
        duration_s=len(samples_N) / rate_hz,
        words=list(
            without_pauses(
                with_speakers(transcript.words, spans), transcript.speech, config.rendering
            )
        ),
        speech=transcript.speech,
        speaker_spans=spans,
        tokens=transcript.tokens_T[1:].tolist(),
        findings=inspection.findings,
        damage=damage,
    )


def samples_of(
    audio: str, channel: int | None, config: DecodeConfig, rate_hz: int
) -> tuple[NDArray[np.int16], str | None]:
    """The whole waveform of a file, and why it is incomplete, if it is."""
    from nightscribe.audio.waveform import read_waveform

    with _on_disk(audio) as path:
        samples_N, outcome = read_waveform(path, config, rate_hz, channel=channel)
    problem = f"{outcome.detail or 'no reason is known'} ({outcome.reason})"
    if not len(samples_N):
        raise ValueError(f"{audio} cannot be decoded: {problem}")
    return samples_N, None if outcome.status == "ok" else problem


def written(transcript: FileTranscript, config: FileConfig) -> str:
    """The transcript in the configured format."""
    if config.format == "json":
        return _json(transcript, with_tokens=config.tokens)
    name = Path(transcript.uri).name
    speakers = speakers_in(transcript.words, transcript.speaker_spans, speech=transcript.speech)
    document = Document(name, speakers, transcript.duration_s)
    return render(document, config.format, config.rendering)


def _json(transcript: FileTranscript, with_tokens: bool) -> str:
    content: dict[str, Any] = {
        "uri": transcript.uri,
        "duration_s": round(transcript.duration_s, TIME_DECIMALS),
        "text": transcript.text,
        "words": [json_word(word) for word in transcript.words],
    }
    if with_tokens:
        content["tokens"] = transcript.tokens
    return json.dumps(content, ensure_ascii=False) + "\n"


def _prompt(config: FileConfig, rate_hz: int) -> "Prompt":
    from nightscribe.model.prompting import Prompt

    samples_N = np.zeros(0, np.int16)
    if config.prompt.audio is not None:
        samples_N, _ = samples_of(config.prompt.audio, None, config.decode, rate_hz)
    return Prompt(
        domain=config.domain or config.model.domain, text=config.prompt.text, samples_N=samples_N
    )


def _check_there(audio: str) -> None:
    if audio == STANDARD_INPUT:
        return
    if Path(audio).is_dir():
        raise ValueError(f"{audio} is a folder; use nightscribe transcribe input={audio}")
    if audio.startswith("s3://"):
        raise ValueError(f"{audio} is not local; use nightscribe transcribe input={audio}")
    if not Path(audio).is_file():
        raise ValueError(f"{audio}: there is no such file")


@contextmanager
def _on_disk(audio: str) -> Iterator[Path]:
    """The file itself, or standard input copied to one: ffmpeg has to seek in some formats."""
    _check_there(audio)
    if audio != STANDARD_INPUT:
        yield Path(audio)
        return
    with tempfile.NamedTemporaryFile(prefix="nightscribe-") as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.flush()
        yield Path(spooled.name)


JOB = Job(name="file", config=FileConfig, run=run_file, positional=("audio",))
