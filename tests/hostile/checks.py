"""Decodes one corpus under strace, and checks the results and the traced calls."""

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightscribe.storage.locations import local_path
from tests.hostile.corpus import HONEST, LISTS, SECRET_NAME, kind_of, write_corpus
from tests.hostile.decode_corpus import LIMITS
from tests.hostile.tracing import STRACE, TracedCall, run_traced, traced_calls

ROOT = Path(__file__).parent.parent.parent
STARTERS = ("setpriv", "sh", "dash")  # of ffmpeg
# What ffmpeg's own libraries look at before it reads anything.
OF_LIBRARIES = (
    "/lib",
    "/usr/",
    "/etc/ld.so",
    "/etc/ssl/",
    "/etc/localtime",
    "/proc/",
    "/sys/",
    "/dev/",
    "/opt/cuda",
)
# Nothing to hear, whatever the name says.
SILENT = (
    *("empty", "endless_chunks", "link_out", "link_to_nothing", "no_channels"),
    *("video_without_audio", "web_page"),
)
# ffmpeg sees to the time of a step, the kernel to its memory; Python and a tracer take their own.
SLACK_S = 30.0
MAX_GROWTH_BYTES = 100 * 2**20
MAX_DETAIL = 700


@dataclass(slots=True)
class HostileRun:
    """The results of a corpus."""

    folder: Path
    files: list[Path]
    took_s: float
    exit_code: int
    results: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, int]] = field(default_factory=list)
    largest_child_bytes: int = 0
    calls: list[TracedCall] = field(default_factory=list)

    def outcomes(self) -> Counter[tuple[str, str]]:
        """How many files of each kind have which result."""
        return Counter((kind_of(path_of(one)), end_of(one)) for one in self.results)


def end_of(result: dict[str, Any]) -> str:
    if result["failure"]:
        return f"failed: {result['failure'][1]}"
    return f"partial: {result['damage'].partition(':')[0]}" if result["damage"] else "ok"


def path_of(result: dict[str, Any]) -> str:
    return os.fspath(local_path(result["uri"]))


def run_corpus(place: Path, num_files: int, seed: int = 0) -> HostileRun:
    """Write the corpus and decode it, under strace if there is one."""
    folder, results, trace = place / "corpus", place / "results", place / "trace"
    files = list(write_corpus(folder, num_files, seed))
    command = [sys.executable, "-m", "tests.hostile.decode_corpus", str(folder), str(results)]
    running: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "cwd": place}
    began_s = time.monotonic()
    done = run_traced(command, trace, **running) if STRACE else subprocess.run(command, **running)
    run = HostileRun(folder, files, time.monotonic() - began_s, done.returncode)
    *lines, last = map(json.loads, results.read_text().splitlines())
    run.results, run.samples = lines, last["samples"]
    run.largest_child_bytes = last["largest_child"]
    run.calls = list(traced_calls(trace)) if STRACE else []
    return run


def problems(run: HostileRun) -> list[str]:
    """Everything that is wrong with the results; empty if nothing is."""
    found = [f"the process ended with {run.exit_code}"] if run.exit_code else []
    finished = sorted(path_of(one) for one in run.results)
    if finished != sorted(map(str, run.files)):
        found.append(f"{len(finished)} results to {len(run.files)} files")
    for result in run.results:
        found += [f"{result}: {what}" for what in _wrong_with(result, run)]
    return found + _growth(run)


def _wrong_with(result: dict[str, Any], run: HostileRun) -> list[str]:
    kind, wrong = kind_of(path_of(result)), []
    if result["took_s"] > LIMITS.max_cpu_s + LIMITS.stall_s + SLACK_S:
        wrong.append("took too long")
    if result["num_samples"] > LIMITS.max_recording_s * 24_000:
        wrong.append("too much audio")
    if (kind in SILENT or kind in LISTS) and (result["num_samples"] or not result["failure"]):
        wrong.append("audio where there is none")
    if kind in HONEST and end_of(result) != "ok":
        wrong.append("a valid file was not decoded")
    if result["failure"] or result["damage"]:
        reason, detail = (result["failure"] or [None, *result["damage"].split(": ", 1)])[1:]
        wrong += _wrong_with_words(reason, detail, run)
    elif not result["num_samples"]:
        wrong.append("neither audio nor a failure")
    return wrong


def _wrong_with_words(reason: str, detail: str, run: HostileRun) -> list[str]:
    wrong = []
    if not reason.replace("_", "").isalpha() or not reason.islower():
        wrong.append("no reason code")
    if not detail or len(detail) > MAX_DETAIL or not detail.isprintable():
        wrong.append("no readable detail")
    if SECRET_NAME in detail:
        wrong.append("names the file outside")
    return wrong


def _growth(run: HostileRun) -> list[str]:
    first, last = run.samples[0], run.samples[-1]
    found = []
    if last["num_descriptors"] > first["num_descriptors"] + 2:
        found.append(f"descriptors grew from {first} to {last}")
    if last["resident_bytes"] > first["resident_bytes"] + MAX_GROWTH_BYTES:
        found.append(f"memory grew from {first} to {last}")
    return found


def foreign_calls(run: HostileRun) -> list[str]:
    """Every call for a file or host outside the corpus."""
    assert run.calls, "nothing was traced"
    secret = str(run.folder.with_name(SECRET_NAME))
    found = [
        f"{one.program} {one.call} {one.path or one.words}"
        for one in run.calls
        if secret in (one.path, one.reached) or one.call == "connect" or _is_foreign(one, run)
    ]
    return found + [f"one ffmpeg opened {paths}" for paths in _opened(run) if len(paths) > 1]


def _opened(run: HostileRun) -> Iterator[set[str]]:
    """The files of the corpus that each ffmpeg opened; process ids are used again."""
    opened: dict[int, set[str]] = defaultdict(set)
    for one in run.calls:
        if one.call == "execve":
            yield opened.pop(one.process, set())
        elif not _is_ours(one) and one.path.startswith(f"{run.folder}/"):
            opened[one.process].add(one.path)
    yield from opened.values()


def _is_ours(one: TracedCall) -> bool:
    """Whether the call is of our own process; ffmpeg and its threads have other names."""
    return one.program.startswith(("python", "strace"))


def _is_foreign(one: TracedCall, run: HostileRun) -> bool:
    """Whether ffmpeg opens anything but its libraries and files of the corpus."""
    if _is_ours(one):
        return one.reached.startswith("/dev/zero") or one.reached.endswith("/environ")
    if one.program in STARTERS and one.call == "execve":  # it becomes ffmpeg
        return not Path(one.path).name.startswith(("ffmpeg", *STARTERS))
    if one.call in ("socket", "execve", "creat") or one.reached in (
        "/dev/zero",
        "/proc/self/environ",
    ):
        return True
    return not one.path.startswith((*OF_LIBRARIES, f"{run.folder}/"))
