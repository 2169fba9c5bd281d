"""How long a worker works and how long it waits for others, told to the ledger now and then."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of all workers of one stage together."""

    busy_s: float = 0.0
    waiting_s: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.busy_s + other.busy_s, self.waiting_s + other.waiting_s)


class Stopwatch:
    """Runs from its making on; a worker works while it has at least one thing in its hands."""

    def __init__(self) -> None:
        self._num_in_hand = 0
        self._spent = Spent()
        self._looked_at_s = time.monotonic()

    def __enter__(self) -> None:
        self._look()
        self._num_in_hand += 1

    def __exit__(self, *error: object) -> None:
        self._look()
        self._num_in_hand -= 1

    def take(self) -> Spent:
        """What was spent since the last time this was asked."""
        self._look()
        spent, self._spent = self._spent, Spent()
        return spent

    def _look(self) -> None:
        now_s = time.monotonic()
        passed_s, self._looked_at_s = now_s - self._looked_at_s, now_s
        is_busy = self._num_in_hand > 0
        self._spent += Spent(passed_s, 0.0) if is_busy else Spent(0.0, passed_s)


def handed_on(things: Iterator[Thing], watch: Stopwatch) -> Iterator[Thing]:
    """The same things: work until each is made, waiting until somebody wants the next."""
    while True:
        with watch:
            made = next(things, None)
        if made is None:
            return
        yield made
