"""CPU time of a process and all its descendants by class, sampled from /proc by a process apart.

A worker of Ray runs tasks of many kinds; what it used between two samples counts for the kind that
its title names. Beside it, a fixed piece of work is timed again and again: on a busy machine the
same work takes more CPU time, by a factor that is reported.
"""

import json
import multiprocessing
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.25
CALIBRATE_S = 2.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# By what the title of a process contains, first match first.
CLASSES = (
    ("TranscribingActor", "transcriber"),
    ("AttemptRegistry", "registry"),
    ("Executor", "executor"),
    ("read_", "reader"),
    ("write_part", "commit"),
    ("publish", "publisher"),
    ("merge", "publisher"),
    ("raylet", "raylet"),
    ("gcs_server", "GCS"),
    ("ray::", "other Ray workers"),
)


@dataclass(frozen=True)
class Sample:
    """CPU seconds so far by class, and the contention while they were measured."""

    at_s: float
    cpu_s: dict[str, float]
    contention: float


class CpuSamples:
    """What was sampled while a `with cpu_sampled(...)` lasted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Sample]:
        return [Sample(**json.loads(line)) for line in self._path.read_text().splitlines()]

    def between(self, from_s: float, to_s: float) -> tuple[dict[str, float], float]:
        """CPU seconds by class between two times, and the mean contention."""
        samples = self.read()
        times = [one.at_s for one in samples]
        first, last = (min(bisect_left(times, at_s), len(times) - 1) for at_s in (from_s, to_s))
        before, after = samples[first], samples[last]
        spent = {name: cpu_s - before.cpu_s.get(name, 0.0) for name, cpu_s in after.cpu_s.items()}
        inside = [one.contention for one in samples[first : last + 1]]
        return spent, sum(inside) / len(inside)


@contextmanager
def cpu_sampled(path: Path) -> Iterator[CpuSamples]:
    """Sample this process and its descendants into a file."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_sample, args=(os.getpid(), path), daemon=True)
    process.start()
    try:
        yield CpuSamples(path)
    finally:
        process.terminate()
        process.join()


def _sample(parent: int, path: Path) -> None:
    total: Counter[str] = Counter()
    before: dict[int, float] = {}
    quiet_s = min(_fixed_work_s() for _ in range(20))
    contention, calibrated_at_s = 1.0, 0.0
    with path.open("w", buffering=1) as file:
        while True:
            if time.monotonic() - calibrated_at_s > CALIBRATE_S:
                contention, calibrated_at_s = _fixed_work_s() / quiet_s, time.monotonic()
            now = dict(_cpu_of_family(parent))
            for pid, (kind, cpu_s) in now.items():
                total[kind] += cpu_s - before.get(pid, 0.0)
            before = {pid: cpu_s for pid, (_, cpu_s) in now.items()}
            document = {"at_s": time.time(), "cpu_s": dict(total), "contention": contention}
            file.write(json.dumps(document) + "\n")
            time.sleep(SAMPLE_S)


def _fixed_work_s() -> float:
    began_s = time.process_time()
    table: dict[int, int] = {}
    for number in range(40_000):
        table[number % 997] = number * number
    return time.process_time() - began_s


def _cpu_of_family(parent: int) -> Iterator[tuple[int, tuple[str, float]]]:
    """The driver by its threads, which have names, and every descendant as one."""
    for thread in Path(f"/proc/{parent}/task").glob("*"):
        with suppress(OSError, IndexError):
            name = (thread / "comm").read_text().strip()
            yield -int(thread.name), (f"driver: {name}", _cpu_s(thread / "stat"))
    for pid in _descendants(parent):
        with suppress(OSError, IndexError):
            yield pid, (_class_of(pid), _cpu_s(Path(f"/proc/{pid}/stat")))


def _descendants(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                if child != os.getpid():
                    yield child
                    yield from _descendants(child)


def _class_of(pid: int) -> str:
    title = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((kind for part, kind in CLASSES if part in title), "other")


def _cpu_s(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
