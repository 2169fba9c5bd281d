"""Runs a program under strace and lists the files and hosts that its processes open."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")
CALLS = "open,openat,openat2,creat,socket,connect,execve,readlink,readlinkat"
_LINE = re.compile(r"^(\d+)<([^>]*)> +(\w+)\((.*)$")
_GRANTED = re.compile(r" = \d+<([^>]*)>$")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One call that a process made, whether the kernel granted it or not."""

    process: int
    program: str  # what the thread calls itself; those of Python keep its name
    call: str
    path: str  # as it was asked for; empty where the call names none
    reached: str  # where that led, past all links
    words: str


def run_traced(command: Sequence[str], trace: Path, **running) -> subprocess.CompletedProcess:
    """The program and all its children, with every path whole and every byte readable."""
    words = [STRACE or "strace", "-f", "-Y", "-y", "-qq", "--seccomp-bpf", "-xx", "-s", "4096"]
    words += ["-e", f"trace={CALLS}", "-o", str(trace)]
    return subprocess.run([*words, *command], **running)


def traced_calls(trace: Path) -> Iterator[TracedCall]:
    """Every call, in order; what was interrupted and resumed counts once."""
    with trace.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if (found := _LINE.match(line)) is not None:
                process, program, call, words = found.groups()
                named = _STRING.search(words)
                path = _text(named[1]) if named else ""
                got = _GRANTED.search(words)
                reached = _text(got[1]) if got else path
                yield TracedCall(int(process), _text(program), call, path, reached, words)


def _text(quoted: str) -> str:
    """What strace -xx wrote as \\x2f\\x65\\x74\\x63."""
    return os.fsdecode(bytes.fromhex(quoted.replace("\\x", "")))
