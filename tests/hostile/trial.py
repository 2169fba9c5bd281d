"""One corpus through the door under a tracer, and everything that must be true of the answers."""

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

from nightscribe.storage.opening import local_path
from tests.hostile.corpus import HONEST, LISTS, SECRET_NAME, kind_of, write_corpus
from tests.hostile.door import LIMITS
from tests.hostile.tracing import STRACE, Asked, asked, run_traced

ROOT = Path(__file__).parent.parent.parent
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
class Trial:
    """What came of a corpus."""

    folder: Path
    files: list[Path]
    took_s: float
    exit_code: int
    answers: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, int]] = field(default_factory=list)
    largest_child_bytes: int = 0
    calls: list[Asked] = field(default_factory=list)

    def outcomes(self) -> Counter[tuple[str, str]]:
        """How many of each kind came to which end."""
        return Counter((kind_of(path_of(one)), end_of(one)) for one in self.answers)


def end_of(answer: dict[str, Any]) -> str:
    if answer["failure"]:
        return f"failed: {answer['failure'][1]}"
    return f"partial: {answer['damage'].partition(':')[0]}" if answer["damage"] else "ok"


def path_of(answer: dict[str, Any]) -> str:
    return os.fspath(local_path(answer["uri"]))


def hold(place: Path, num_files: int, seed: int = 0) -> Trial:
    """Write the corpus and send it through; traced where there is a tracer."""
    folder, answers, trace = place / "corpus", place / "answers", place / "trace"
    files = list(write_corpus(folder, num_files, seed))
    command = [sys.executable, "-m", "tests.hostile.door", str(folder), str(answers)]
    running: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "cwd": place}
    began_s = time.monotonic()
    done = run_traced(command, trace, **running) if STRACE else subprocess.run(command, **running)
    trial = Trial(folder, files, time.monotonic() - began_s, done.returncode)
    *lines, last = map(json.loads, answers.read_text().splitlines())
    trial.answers, trial.looks = lines, last["looks"]
    trial.largest_child_bytes = last["largest_child"]
    trial.calls = list(asked(trace)) if STRACE else []
    return trial


def objections(trial: Trial) -> list[str]:
    """What is wrong with the answers; empty if nothing is."""
    found = [f"the process ended with {trial.exit_code}"] if trial.exit_code else []
    answered = sorted(path_of(one) for one in trial.answers)
    if answered != sorted(map(str, trial.files)):
        found.append(f"{len(answered)} answers to {len(trial.files)} files")
    for answer in trial.answers:
        found += [f"{answer}: {what}" for what in _wrong_with(answer, trial)]
    return found + _growth(trial)


def _wrong_with(answer: dict[str, Any], trial: Trial) -> list[str]:
    kind, wrong = kind_of(path_of(answer)), []
    if answer["took_s"] > LIMITS.max_cpu_s + LIMITS.stall_s + SLACK_S:
        wrong.append("took too long")
    if answer["num_samples"] > LIMITS.max_recording_s * 24_000:
        wrong.append("too much sound")
    if (kind in SILENT or kind in LISTS) and (answer["num_samples"] or not answer["failure"]):
        wrong.append("sound where there is none")
    if kind in HONEST and end_of(answer) != "ok":
        wrong.append("an honest file was not heard")
    if answer["failure"] or answer["damage"]:
        reason, detail = (answer["failure"] or [None, *answer["damage"].split(": ", 1)])[1:]
        wrong += _wrong_with_words(reason, detail, trial)
    elif not answer["num_samples"]:
        wrong.append("neither sound nor a failure")
    return wrong


def _wrong_with_words(reason: str, detail: str, trial: Trial) -> list[str]:
    wrong = []
    if not reason.replace("_", "").isalpha() or not reason.islower():
        wrong.append("no reason code")
    if not detail or len(detail) > MAX_DETAIL or not detail.isprintable():
        wrong.append("no readable detail")
    if SECRET_NAME in detail:
        wrong.append("tells of the file outside")
    return wrong


def _growth(trial: Trial) -> list[str]:
    first, last = trial.looks[0], trial.looks[-1]
    found = []
    if last["num_descriptors"] > first["num_descriptors"] + 2:
        found.append(f"descriptors grew from {first} to {last}")
    if last["resident_bytes"] > first["resident_bytes"] + MAX_GROWTH_BYTES:
        found.append(f"memory grew from {first} to {last}")
    return found


def trespasses(trial: Trial) -> list[str]:
    """Every call for a file or host that is none of the door's business."""
    assert trial.calls, "nothing was traced"
    secret = str(trial.folder.with_name(SECRET_NAME))
    found = [
        f"{one.program} {one.call} {one.path or one.words}"
        for one in trial.calls
        if secret in (one.path, one.reached) or one.call == "connect" or _is_foreign(one, trial)
    ]
    return found + [f"one ffmpeg opened {paths}" for paths in _opened(trial) if len(paths) > 1]


def _opened(trial: Trial) -> Iterator[set[str]]:
    """The files of the corpus that each ffmpeg opened; numbers of processes come again."""
    opened: dict[int, set[str]] = defaultdict(set)
    for one in trial.calls:
        if one.call == "execve":
            yield opened.pop(one.process, set())
        elif not _is_ours(one) and one.path.startswith(f"{trial.folder}/"):
            opened[one.process].add(one.path)
    yield from opened.values()


def _is_ours(one: Asked) -> bool:
    """Whether the door's own process calls; ffmpeg and its threads have other names."""
    return one.program.startswith(("python", "strace"))


def _is_foreign(one: Asked, trial: Trial) -> bool:
    """Whether ffmpeg asks for anything but its own libraries and files of the corpus."""
    if _is_ours(one):
        return one.reached.startswith("/dev/zero") or one.reached.endswith("/environ")
    if one.call in ("socket", "execve", "creat") or one.reached in (
        "/dev/zero",
        "/proc/self/environ",
    ):
        return True
    return not one.path.startswith((*OF_LIBRARIES, f"{trial.folder}/"))
