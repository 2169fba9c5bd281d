"""`nightscribe live AUDIO|-|mic`: words in the terminal as a server transcribes them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from omegaconf import MISSING
from rich.console import Console
from rich.text import Text

from nightscribe.audio.decode import DecodeConfig
from nightscribe.errors import NightscribeError
from nightscribe.jobs.file import samples_of
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option

MICROPHONE = "mic"
STANDARD_INPUT = "-"
PAUSE_HEAD = 2
# Confidences below which a word is shown as doubtful, and as very doubtful.
DOUBTFUL, VERY_DOUBTFUL = 0.8, 0.5
BARS = " ▁▂▃▄▅▆▇█"
FORMATS = ("text", "words")


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveConfig:
    """Stream audio to a server of `nightscribe serve`, or to Kyutai's moshi-server."""

    audio: str = option(MISSING, "audio file; - reads 24 kHz 16-bit mono samples; mic records")
    url: str = option("http://127.0.0.1:8080", "the server", common=True)
    api_key: str = option("public_token", "API key", common=True)
    rtf: float = option(1.0, "how much faster than real time a file is sent", above=0, common=True)
    format: str = option("text", "text, or words with their times", choices=FORMATS, common=True)
    device: str | None = option(None, "microphone, by number or name; null: the default one")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits")

    def __post_init__(self) -> None:
        check_options(self)


def run_live(config: LiveConfig) -> int:
    """Print words until the audio ends, or Ctrl-C."""
    view = View(console(), config.format)
    try:
        asyncio.run(_show(config, view))
    finally:
        view.close()
    return 0


async def _show(config: LiveConfig, view: "View") -> None:
    from nightscribe.serving.client import LiveClient

    is_file = config.audio not in (MICROPHONE, STANDARD_INPUT)
    client = LiveClient(config.url, config.api_key, config.rtf if is_file else None)
    async for event in client.transcribe(_blocks(config)):
        view.show(event)


def _blocks(config: LiveConfig) -> AsyncIterator[np.ndarray]:
    if config.audio == MICROPHONE:
        return microphone_blocks(config.device)
    if config.audio == STANDARD_INPUT:
        return _piped_blocks()
    return _file_blocks(config)


async def _file_blocks(config: LiveConfig) -> AsyncIterator[np.ndarray]:
    from nightscribe.serving.client import FRAME_SAMPLES, SAMPLE_RATE_HZ

    samples_N, damage = await asyncio.to_thread(
        samples_of, config.audio, None, config.decode, SAMPLE_RATE_HZ
    )
    if damage is not None:
        sys.stderr.write(f"nightscribe: {config.audio} is incomplete: {damage}\n")
    for first in range(0, len(samples_N), FRAME_SAMPLES):
        yield samples_N[first : first + FRAME_SAMPLES]


async def _piped_blocks() -> AsyncIterator[np.ndarray]:
    """16-bit samples as they come through a pipe."""
    from nightscribe.serving.client import FRAME_SAMPLES

    odd = b""
    while data := await asyncio.to_thread(os.read, sys.stdin.fileno(), 2 * FRAME_SAMPLES):
        data = odd + data
        whole = len(data) // 2 * 2
        odd = data[whole:]
        yield np.frombuffer(data[:whole], "<i2")


async def microphone_blocks(device: str | None) -> AsyncIterator[np.ndarray]:
    """Frames of a microphone; those that cannot be sent in time are dropped by the queue."""
    try:
        import sounddevice
    except OSError as error:  # the library is there, PortAudio is not
        raise NightscribeError(
            f"the microphone needs the system library PortAudio: {error}"
        ) from None
    from nightscribe.serving.client import FRAME_SAMPLES, SAMPLE_RATE_HZ

    loop, frames = asyncio.get_running_loop(), asyncio.Queue[np.ndarray]()

    def on_audio(data: np.ndarray, *_: object) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, data[:, 0].copy())

    with sounddevice.InputStream(
        samplerate=SAMPLE_RATE_HZ,
        blocksize=FRAME_SAMPLES,
        channels=1,
        dtype="int16",
        device=int(device) if device is not None and device.isdecimal() else device,
        callback=on_audio,
    ):
        while True:
            yield await frames.get()


class View:
    """Words as they come; on a terminal with a bar that rises while the model predicts a pause."""

    def __init__(self, out: Console, format: str) -> None:
        self._out, self._format = out, format
        self._word: tuple[str, float, float | None] | None = None
        self._has_text, self._bar, self._is_paused = False, "", False

    def show(self, event: object) -> None:
        from nightscribe.serving.client import LivePause, LiveWord, LiveWordEnd

        match event:
            case LiveWord(text, start_s, confidence):
                self._begin_word(text, start_s, confidence)
            case LiveWordEnd(end_s):
                self._end_word(end_s)
            case LivePause(prs) if prs:
                self._show_pause(prs[min(PAUSE_HEAD, len(prs) - 1)])

    def close(self) -> None:
        self._erase_bar()
        self._end_word(None)
        if self._has_text and self._format == "text":
            self._out.print()

    def _begin_word(self, text: str, start_s: float, confidence: float | None) -> None:
        self._end_word(None)
        self._word, self._is_paused = (text, start_s, confidence), False
        if self._format == "text":
            self._erase_bar()
            space = " " if self._has_text else ""
            self._out.print(Text(f"{space}{text}", _style(confidence)), end="", soft_wrap=True)
            self._has_text = True

    def _end_word(self, end_s: float | None) -> None:
        word, self._word = self._word, None
        if word is None or self._format != "words":
            return
        text, start_s, confidence = word
        end = "       -" if end_s is None else f"{end_s:8.2f}"
        sure = "   -" if confidence is None else f"{confidence:4.2f}"
        self._out.print(f"{start_s:8.2f} {end} {sure}  {text}", soft_wrap=True)

    def _show_pause(self, probability: float) -> None:
        if self._format != "text" or not self._has_text:
            return
        if self._out.is_terminal:
            self._erase_bar()
            self._bar = " " + BARS[round(probability * (len(BARS) - 1))]
            self._out.print(Text(self._bar, "dim"), end="")
        elif probability > 0.5 and not self._is_paused:
            self._out.print()
            self._has_text = False
        self._is_paused = probability > 0.5

    def _erase_bar(self) -> None:
        if self._bar:
            self._out.file.write("\b" * len(self._bar) + " " * len(self._bar))
            self._out.file.write("\b" * len(self._bar))
            self._bar = ""


def _style(confidence: float | None) -> str:
    if confidence is None or confidence >= DOUBTFUL:
        return ""
    return "yellow" if confidence >= VERY_DOUBTFUL else "red"


JOB = Job(name="live", config=LiveConfig, run=run_live, positional=("audio",))
