"""What `nightscribe file` does once its words are understood; torch takes seconds to load."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.inspection import inspect
from nightscribe.jobs.file import FileConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.device import device_of
from nightscribe.model.prompting import Prompt
from nightscribe.records import Word
from nightscribe.rendering.document import monologue
from nightscribe.rendering.formats import render
from nightscribe.transcription.transcriber import Clip, ClipTranscript, Transcriber

STANDARD_INPUT = "-"
FRAMES_PER_PASS = 6  # eight bring hardly more
TIME_DECIMALS = 3
CONFIDENCE_DECIMALS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileTranscript:
    """What was said in one file."""

    uri: str
    duration_s: float
    words: list[Word]
    tokens: list[int]  # said on hearing each frame of prefix, prompt, recording and flush


def transcribe_file(config: FileConfig) -> int:
    """Write the words to the terminal; a file that is only partly readable is told beside them."""
    checkpoint = open_model(config.model)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    # Before the weights are read, which takes longer than to find a file unreadable.
    samples_N = samples_of(config.audio, config.channel, config.decode, rate_hz)
    clip = Clip(config.audio, samples_N, prompt=_prompt(config, rate_hz))
    transcriber = Transcriber.from_checkpoint(
        checkpoint, config.model, engine_of(config.engine), config.guards
    )
    (heard,) = transcriber.transcribe([clip])
    _report_findings(heard, config)
    transcript = FileTranscript(
        uri=config.audio,
        duration_s=len(samples_N) / rate_hz,
        words=list(heard.words),
        tokens=heard.tokens_T[1:].tolist(),
    )
    sys.stdout.write(written(transcript, config))
    return 0


def engine_of(wished: EngineConfig) -> EngineConfig:
    """For a single stream, which gains most by hearing several frames at once.

    Only where that changes no word, and where it was measured: in float32 on a CPU.
    """
    is_exact = {wished.dtype, wished.cache} <= {"auto", "float32"}
    is_on_cpu = device_of(wished.device).type == "cpu"
    frames_per_pass = FRAMES_PER_PASS if is_exact and is_on_cpu else 1
    return replace(wished, num_slots=1, frames_per_pass=wished.frames_per_pass or frames_per_pass)


def _report_findings(transcript: ClipTranscript, config: FileConfig) -> None:
    """Write to stderr what is still suspicious after the retries."""
    words, speech = transcript.words, transcript.speech
    for one in inspect(words, speech, None, config.guards).findings:
        where = f"{one.start_s:.1f}-{one.end_s:.1f} s"
        sys.stderr.write(f"nightscribe: {config.audio}: {one.guard} at {where}: {one.detail}\n")


def samples_of(
    audio: str, channel: int | None, config: DecodeConfig, rate_hz: int
) -> NDArray[np.int16]:
    """The whole waveform of a file; raises ValueError where there is none."""
    with _on_disk(audio) as path:
        samples_N, outcome = read_waveform(path, config, rate_hz, channel=channel)
    problem = f"{outcome.detail or 'no reason is known'} ({outcome.reason})"
    if not len(samples_N):
        raise ValueError(f"{audio} cannot be decoded: {problem}")
    if outcome.status != "ok":
        sys.stderr.write(f"nightscribe: {audio} is not whole: {problem}\n")
    return samples_N


def written(transcript: FileTranscript, config: FileConfig) -> str:
    """The transcript in the format that was asked for."""
    if config.format == "json":
        return _json(transcript, with_tokens=config.tokens)
    name = Path(transcript.uri).name
    return render(monologue(name, transcript.words), config.format, config.rendering)


def _json(transcript: FileTranscript, with_tokens: bool) -> str:
    content: dict[str, Any] = {
        "uri": transcript.uri,
        "duration_s": round(transcript.duration_s, TIME_DECIMALS),
        "text": " ".join(word.text for word in transcript.words),
        "words": [_rounded(word) for word in transcript.words],
    }
    if with_tokens:
        content["tokens"] = transcript.tokens
    return json.dumps(content, ensure_ascii=False) + "\n"


def _rounded(word: Word) -> dict[str, str | float]:
    return {
        "text": word.text,
        "start_s": round(word.start_s, TIME_DECIMALS),
        "end_s": round(word.end_s, TIME_DECIMALS),
        "confidence": round(word.confidence, CONFIDENCE_DECIMALS),
    }


def _prompt(config: FileConfig, rate_hz: int) -> Prompt:
    samples_N = np.zeros(0, np.int16)
    if config.prompt.audio is not None:
        samples_N = samples_of(config.prompt.audio, None, config.decode, rate_hz)
    return Prompt(
        domain=config.domain or config.model.domain, text=config.prompt.text, samples_N=samples_N
    )


@contextmanager
def _on_disk(audio: str) -> Iterator[Path]:
    """The file itself, or standard input written to one: ffmpeg has to seek in some formats."""
    if audio != STANDARD_INPUT:
        path = Path(audio)
        if path.is_dir():
            raise ValueError(f"{audio} is a folder: nightscribe transcribe input={audio} takes it")
        if not path.is_file():
            raise ValueError(f"{audio}: there is no such file")
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="nightscribe-") as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.flush()
        yield Path(spooled.name)
