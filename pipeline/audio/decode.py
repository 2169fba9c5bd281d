"""Decodes one local file to samples in one streaming pass of ffmpeg.

The process has limits on memory, CPU time and idle time. `decode_outcome` judges the result.

N samples per channel, C channels.
"""

import io
import logging
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio import ffmpeg
from nightscribe.audio.decode_outcome import (
    DecodeOutcome,
    ends_within_page,
    judge,
    wav_duration_s,
)
from nightscribe.options import check_options, option

log = logging.getLogger(__name__)

# `$0` is the process that should be the parent, `$@` the command.
RUN_IF_CHILD = '[ "$PPID" -eq "$0" ] && exec "$@"'

BYTES_PER_SAMPLE = 2
MAX_LINES = 200
# The metadata of a file, which ffmpeg prints, may be very long.
MAX_LINE_BYTES = 4096
# With hundreds of channels a block of seconds would take gigabytes.
MAX_BLOCK_BYTES = 16 * 2**20
# How long a killed process may take to end.
END_S = 10.0
# ffmpeg reads untrusted files: it gets no credentials and no switches such as FFREPORT.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeConfig:
    """Limits of one decoding."""

    ffmpeg: str | None = option(None, "the ffmpeg program; null: the system's, else a bundled one")
    track: int | None = option(
        None,
        "audio track to decode, counted from 0; null: the first, and a file with more is partial",
        minimum=0,
    )
    block_s: float = option(10.0, "seconds of audio decoded at a time", above=0)
    max_recording_s: float = option(
        48 * 3600.0, "longer recordings are cut off and marked partial", above=0
    )
    stall_s: float = option(120.0, "kill ffmpeg when one block takes this long", above=0)
    max_cpu_s: int = option(7200, "CPU time limit of one ffmpeg process", above=0)
    max_memory_bytes: int = option(4 << 30, "address space limit of one ffmpeg process", above=0)

    def __post_init__(self) -> None:
        check_options(self, "decode")


class AudioDecoder:
    """Decodes one file: iterate over the blocks_NC once, then read `outcome`.

    `with AudioDecoder(path, config, rate_hz) as decoder: for block_NC in decoder: ...`
    """

    def __init__(self, path: str | Path, config: DecodeConfig, sample_rate_hz: int) -> None:
        self._config, self._rate_hz, self._path = config, sample_rate_hz, Path(path)
        program = ffmpeg.find_ffmpeg(config.ffmpeg)
        command = ffmpeg.decoding_command(program, str(path), sample_rate_hz, config.track or 0)
        self._process = start_ffmpeg(command, config)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        self._lines = deque[str](maxlen=MAX_LINES)
        self._first_lines: list[str] = []
        self._stderr_reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._stderr_reader.start()
        self._abort_reason = "empty" if self._is_empty() else None
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
        block_bytes = self._columns_per_block() * bytes_per_column
        while self.num_channels and (data := self._read(block_bytes)):
            columns = len(data) // bytes_per_column
            columns = min(columns, self._columns_left())
            self._num_samples += columns
            if columns:
                flat = np.frombuffer(data, "<i2", columns * self.num_channels)
                yield flat.reshape(columns, self.num_channels)
            if not self._columns_left():
                self._abort_reason = "too_long"
                return

    @property
    def outcome(self) -> DecodeOutcome:
        """How the decoding went; read it after the last block."""
        if self._abort_reason is None:
            self._wait()
        self._end()
        num_tracks = ffmpeg.num_audio_tracks(self._first_lines)
        return judge(
            decoded_s=self._num_samples / self._rate_hz,
            # A file with several tracks states the duration of the longest.
            stated_s=self._stated_s() if num_tracks < 2 else None,
            num_unheard_tracks=max(num_tracks - 1, 0) if self._config.track is None else 0,
            is_cut_short=self._path.is_file() and ends_within_page(self._path),
            lines=list(self._lines),
            exit_code=self._process.returncode or 0,
            abort_reason=self._abort_reason,
        )

    def _wait(self) -> None:
        """Let ffmpeg end by itself after its last output."""
        try:
            self._process.wait(self._config.stall_s)
        except subprocess.TimeoutExpired:
            self._abort_reason = "timeout"

    def _end(self) -> None:
        kill_ffmpeg(self._process)
        self._stderr_reader.join(END_S)

    def _stated_s(self) -> float | None:
        """The duration that the header of the file states."""
        in_header_s = wav_duration_s(self._path) if self._path.is_file() else None
        return in_header_s or ffmpeg.stated_duration_s(self._first_lines)

    def _is_empty(self) -> bool:
        return self._path.is_file() and not self._path.stat().st_size

    def _columns_per_block(self) -> int:
        requested = int(self._config.block_s * self._rate_hz)
        largest = MAX_BLOCK_BYTES // (BYTES_PER_SAMPLE * max(self.num_channels, 1))
        return max(min(requested, largest), 1)

    def _columns_left(self) -> int:
        return int(self._config.max_recording_s * self._rate_hz) - self._num_samples

    def _read_header(self) -> int:
        """The number of channels from the WAV header; 0 if ffmpeg writes nothing."""
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
        """That many bytes, or fewer at the end."""
        parts, missing = [], num_bytes
        deadline_s = time.monotonic() + self._config.stall_s
        while missing and self._can_read(deadline_s) and (part := self._pipe.read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _can_read(self, deadline_s: float) -> bool:
        left_s = deadline_s - time.monotonic()
        # A trickle of bytes is no progress: the deadline is for the whole block.
        if (
            self._abort_reason is None
            and left_s > 0
            and select.select([self._pipe], [], [], left_s)[0]
        ):
            return True
        self._abort_reason = self._abort_reason or "timeout"
        return False

    def _read_stderr(self) -> None:
        assert isinstance(self._process.stderr, io.RawIOBase)
        with io.BufferedReader(self._process.stderr) as stderr:
            while raw := stderr.readline(MAX_LINE_BYTES):
                line = raw.decode(errors="replace").rstrip()
                if len(self._first_lines) < MAX_LINES:
                    self._first_lines.append(line)
                self._lines.append(line)


def read_header_text(path: str | Path, config: DecodeConfig) -> str:
    """What ffmpeg prints about the header of a file, under the same limits; decodes nothing."""
    program = ffmpeg.find_ffmpeg(config.ffmpeg)
    process = start_ffmpeg(ffmpeg.probing_command(program, str(path)), config)
    try:
        stderr = process.communicate(timeout=config.stall_s)[1]
    except subprocess.TimeoutExpired:
        return f"reading the header took more than {config.stall_s:g} s"
    finally:
        kill_ffmpeg(process)
    return stderr.decode(errors="replace")


def start_ffmpeg(
    command: list[str],
    config: DecodeConfig,
    stdin: int = subprocess.DEVNULL,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start ffmpeg on two pipes, with resource limits and a minimal environment."""
    process = subprocess.Popen(
        [*ending_with_parent(), *command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,  # select does not see what a buffer holds
        start_new_session=True,  # Ctrl-C must not reach it; its children can be killed with it
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    )
    _limit(process.pid, config)
    return process


def ending_with_parent() -> tuple[str, ...]:
    """Words before a command that make the kernel kill it when the thread that started it ends.

    An ffmpeg that writes nothing would not notice that its reader was killed. `setpriv` sets the
    signal in the child itself: code between fork and exec is not safe beside other threads. A
    parent that died before has left the child to another, so the shell compares.
    """
    setpriv = _setpriv()
    if setpriv is None:
        return ()
    return setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", RUN_IF_CHILD, str(os.getpid())


@cache
def _setpriv() -> str | None:
    return shutil.which("setpriv")


def kill_ffmpeg(process: subprocess.Popen[bytes]) -> None:
    """Kill ffmpeg and any process that it started."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        log.warning(
            "ffmpeg, process %d, does not end after SIGKILL: its disk may not respond", process.pid
        )


def _limit(pid: int, config: DecodeConfig) -> None:
    """Limit the memory and CPU time of a process, and forbid it to write files."""
    if not hasattr(resource, "prlimit"):  # only Linux sets the limits of another process
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
