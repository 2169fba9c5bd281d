"""Private memory of this process and its descendants, by role."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

LOOK_S = 1.0
ROLES = {
    "ray::TranscribingActor": "transcriber",
    "TranscribingActor": "transcriber",
    "read_packets": "reader",
    "publish_recordings": "publisher",
    "ffmpeg": "ffmpeg",
    "AttemptRegistry": "registry",
    "raylet": "raylet",
    "gcs_server": "gcs",
    "ray::": "other workers",
}
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


class Resident:
    """Samples every second; `note` sets the share of the work that is done."""

    def __init__(self) -> None:
        self._share, self._ended = 0.0, threading.Event()
        self._looks: list[tuple[float, dict[str, float]]] = []

    def note(self, share: float) -> None:
        self._share = share

    @contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def table(self) -> Iterator[str]:
        """The most that any process of each role held, up to each share of the work."""
        yield f"| MiB | {' | '.join(f'until {share:.0%}' for share in SHARES)} |"
        yield "|---" * (len(SHARES) + 1) + "|"
        for role in sorted({role for _, held in self._looks for role in held}):
            cells = [f"{self._most(role, *span):.0f}" for span in pairwise((0.0, *SHARES))]
            yield f"| {role} | {' | '.join(cells)} |"

    def _most(self, role: str, above: float, upto: float) -> float:
        return max(
            (held.get(role, 0.0) for share, held in self._looks if above <= share <= upto),
            default=0.0,
        )

    def _look_on(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._looks.append((self._share, dict(held_by_role())))


def held_by_role() -> Iterator[tuple[str, float]]:
    most: dict[str, float] = {"driver": private_mib(os.getpid())}
    for pid in descendants(os.getpid()):
        role = role_of(pid)
        most[role] = max(most.get(role, 0.0), private_mib(pid))
    yield from most.items()


def role_of(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "gone"
    return next((role for sign, role in ROLES.items() if sign in name), "other")


def private_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)
