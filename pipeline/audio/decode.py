"""One local file to samples, in one streaming pass of ffmpeg.

Neither ffmpeg's exit code nor the duration in a header is believed alone: what came out is held
against what was promised, and the outcome says ok, partial or failed, and why.

N samples per channel, C channels.
"""

import io
import logging
import os
import resource
import select
import signal
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio import ffmpeg
from nightscribe.audio.ogg_pages import ends_within_page
from nightscribe.audio.outcome import Outcome, judge
from nightscribe.audio.wav_header import wav_duration_s
from nightscribe.options import check_options, option

log = logging.getLogger(__name__)

BYTES_PER_SAMPLE = 2
MAX_LINES = 200
# A file may hold more text about itself than anybody wants to read.
MAX_LINE_BYTES = 4096
# Hundreds of channels would make a block of seconds a block of gigabytes.
MAX_BLOCK_BYTES = 16 * 2**20
# How long the kernel may take over a process that was ended.
END_S = 10.0
# Neither credentials nor switches such as FFREPORT are for a program that reads strangers' files.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeConfig:
    """Limits of one decoding."""

    ffmpeg: str | None = option(None, "the ffmpeg program; null: the system's, else a bundled one")
    block_s: float = option(10.0, "seconds of audio decoded at a time", above=0)
    max_recording_s: float = option(
        48 * 3600.0, "longer recordings are cut off and marked partial", above=0
    )
    stall_s: float = option(120.0, "kill ffmpeg when one block takes this long", above=0)
    max_cpu_s: int = option(7200, "CPU time limit of one ffmpeg process", above=0)
    max_memory_bytes: int = option(4 << 30, "address space limit of one ffmpeg process", above=0)

    def __post_init__(self) -> None:
        check_options(self, "decode")


class Sound:
    """A file being decoded: iterate its blocks_NC once, then read its `outcome`.

    `with Sound(path, config, rate_hz) as sound: for block_NC in sound: ...`
    """

    def __init__(self, path: str | Path, config: DecodeConfig, sample_rate_hz: int) -> None:
        self._config, self._rate_hz, self._path = config, sample_rate_hz, Path(path)
        program = ffmpeg.find_ffmpeg(config.ffmpeg)
        command = ffmpeg.decoding_command(program, str(path), sample_rate_hz)
        self._process = start(command, config)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        self._lines = deque[str](maxlen=MAX_LINES)
        self._first_lines: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._broken = "empty" if self._is_empty() else None
        self._num_samples = 0
        self.num_channels = self._read_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._pipe.close()

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        """The samples in order, in blocks; the last one may be short."""
        bytes_per_column = BYTES_PER_SAMPLE * self.num_channels
        block_bytes = self._columns_at_a_time() * bytes_per_column
        while self.num_channels and (data := self._read(block_bytes)):
            columns = len(data) // bytes_per_column
            columns = min(columns, self._columns_left())
            self._num_samples += columns
            if columns:
                flat = np.frombuffer(data, "<i2", columns * self.num_channels)
                yield flat.reshape(columns, self.num_channels)
            if not self._columns_left():
                self._broken = "too_long"
                return

    @property
    def outcome(self) -> Outcome:
        """How it went; read it after the last block."""
        if self._broken is None:
            self._wait()
        self._end()
        return judge(
            decoded_s=self._num_samples / self._rate_hz,
            stated_s=self._stated_s(),
            is_cut_short=self._path.is_file() and ends_within_page(self._path),
            lines=list(self._lines),
            exit_code=self._process.returncode or 0,
            broken=self._broken,
        )

    def _wait(self) -> None:
        """Let ffmpeg end by itself: there is nothing left for it to write."""
        try:
            self._process.wait(self._config.stall_s)
        except subprocess.TimeoutExpired:
            self._broken = "timeout"

    def _end(self) -> None:
        end(self._process)
        self._listener.join(END_S)

    def _stated_s(self) -> float | None:
        """What the file's own header promises."""
        in_header_s = wav_duration_s(self._path) if self._path.is_file() else None
        return in_header_s or ffmpeg.stated_duration_s(self._first_lines)

    def _is_empty(self) -> bool:
        return self._path.is_file() and not self._path.stat().st_size

    def _columns_at_a_time(self) -> int:
        wanted = int(self._config.block_s * self._rate_hz)
        fitting = MAX_BLOCK_BYTES // (BYTES_PER_SAMPLE * max(self.num_channels, 1))
        return max(min(wanted, fitting), 1)

    def _columns_left(self) -> int:
        return int(self._config.max_recording_s * self._rate_hz) - self._num_samples

    def _read_header(self) -> int:
        """The number of channels from the WAV header; 0 where nothing comes."""
        riff, channels = self._read(12), 0
        while len(riff) == 12 and len(head := self._read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                return channels
            content = self._read(size + size % 2)
            if name == b"fmt ":
                channels = struct.unpack_from("<H", content, 2)[0]
        return 0

    def _read(self, num_bytes: int) -> bytes:
        """That many bytes, or what is left of them at the end."""
        parts, missing = [], num_bytes
        deadline_s = time.monotonic() + self._config.stall_s
        while missing and self._can_read(deadline_s) and (part := self._pipe.read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _can_read(self, deadline_s: float) -> bool:
        left_s = deadline_s - time.monotonic()
        # What trickles in is a standstill, too: only whole blocks are progress.
        if self._broken is None and left_s > 0 and select.select([self._pipe], [], [], left_s)[0]:
            return True
        self._broken = self._broken or "timeout"
        return False

    def _listen(self) -> None:
        assert isinstance(self._process.stderr, io.RawIOBase)
        with io.BufferedReader(self._process.stderr) as told:
            while raw := told.readline(MAX_LINE_BYTES):
                line = raw.decode(errors="replace").rstrip()
                if len(self._first_lines) < MAX_LINES:
                    self._first_lines.append(line)
                self._lines.append(line)


def start(command: list[str], config: DecodeConfig) -> subprocess.Popen[bytes]:
    """ffmpeg between two pipes, with little to know and little to spend."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # select must see all that has come
        start_new_session=True,  # Ctrl-C is for us, and whatever it starts ends with it
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    )
    _limit(process.pid, config)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End ffmpeg and what it may have started, however it resists."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        log.warning("ffmpeg, process %d, cannot be ended: its disk may not answer", process.pid)


def _limit(pid: int, config: DecodeConfig) -> None:
    """Hold a process to its share; a file it cannot write at all."""
    if not hasattr(resource, "prlimit"):  # only Linux sets another process's limits
        return
    limits = {
        resource.RLIMIT_AS: config.max_memory_bytes,
        resource.RLIMIT_CPU: config.max_cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    try:
        for kind, limit in limits.items():
            resource.prlimit(pid, kind, (limit, limit))
    except ProcessLookupError:
        log.debug("ffmpeg ended before its limits were set")
