"""Commands on a pseudo-terminal, and what a person then sees on its screen."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import pyte

ROOT = Path(__file__).parent.parent
SIZES = {"small": (80, 24), "large": (200, 60)}  # columns, rows
READ_S = 0.05
PROMPT = "shell$"
# A shell with job control: after Ctrl-Z it prompts, and Enter brings the command back.
SHELL = f'''
"$@"; code=$?
while jobs %% &>/dev/null; do printf "{PROMPT} "; read -r _; fg >/dev/null; code=$?; done
exit $code'''
TYPICAL = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}


class Terminal:
    """A command whose three streams are a pseudo-terminal; a thread reads what it writes."""

    def __init__(
        self,
        *words: str,
        size: tuple[int, int] = SIZES["small"],
        env: dict[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "nightscribe"),
        echo: bool = True,
    ) -> None:
        self._ours, theirs = pty.openpty()
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._lock, self._is_closing = threading.Lock(), threading.Event()
        self.written = b""
        self.resize(*size)
        if not echo:
            _set_no_echo(theirs)
        self.process = subprocess.Popen(
            ["bash", "--norc", "-mc", SHELL, "bash", sys.executable, *program, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
            cwd=ROOT,
            env=_without_size(os.environ) | TYPICAL | (env or {}),
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.close()

    def close(self) -> None:
        """As a window that is closed."""
        self._is_closing.set()
        self._reader.join(10)

    @property
    def has_cursor(self) -> bool:
        with self._lock:
            return not self._screen.cursor.hidden

    @property
    def cursor_column(self) -> int:
        with self._lock:
            return self._screen.cursor.x

    @property
    def lines(self) -> list[str]:
        """The screen as it is now, without blanks at the ends of lines."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def resize(self, columns: int, rows: int) -> None:
        """As a window manager does; the kernel sends SIGWINCH."""
        with self._lock:
            self._screen.resize(rows, columns)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Until the screen shows the text."""
        self.wait_until(lambda: text in self.text, timeout_s)

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = 60) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            has_ended = self.process.poll() is not None
            assert (time.monotonic() < deadline_s and not has_ended) or holds(), self.text
            time.sleep(0.02)

    def end(self, timeout_s: float = 120) -> int:
        """The exit code, once everything written has been read."""
        code = self.process.wait(timeout_s)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        while not self._is_closing.is_set():
            if not select.select([self._ours], [], [], READ_S)[0]:
                continue
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the other side is closed
                break
            with self._lock:
                self.written += data
                self._stream.feed(data)
        os.close(self._ours)


def _without_size(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that would win over the size of the pseudo-terminal; pytest-xdist sets them."""
    return {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}


def _set_no_echo(terminal: int) -> None:
    """What is typed does not appear on the screen; Ctrl-C and Ctrl-Z still work."""
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _take_terminal() -> None:
    """Make the pseudo-terminal the controlling one, so that Ctrl-C and Ctrl-Z reach the command."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
