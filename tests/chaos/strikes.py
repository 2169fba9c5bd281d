"""One command that is given again until it succeeds, while those who work on it are struck."""

import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

from nightscribe.storage import lease as leases
from nightscribe.storage.store import Store
from tests.chaos.attempt import Attempt
from tests.chaos.faulty_s3 import Faults
from tests.chaos.raylets import Raylets, kill
from tests.chaos.tables import store_at

# Drawn like lots that are not put back, from those who are there; then from a full urn again.
VICTIMS = {
    "driver": 5,
    "executor": 4,  # where a run has several
    "transcriber": 7,
    "decoder": 7,
    "raylet": 4,
    "drained": 1,
    "frozen": 1,
}
TASK_OF = {
    "executor": "ray::Executor",
    "transcriber": "TranscribingActor",
    "decoder": "read_packets",
}
JITTER_S = 0.3
LOOK_S = 0.2
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
MAX_ATTEMPTS = 12
GIVE_UP_S = 600.0
NUM_NODES = 2
# The name of the error at the end of a stack.
RAISED = re.compile(r"^(?:\w+\.)*(\w+(?:Error|Interrupt))\b", re.MULTILINE)

Share = Callable[[], float]


@dataclass
class Strikes:
    """Whom they met and when; `complaints` has what hung or did not end."""

    raylets: Raylets
    endpoint: str  # of the S3 server itself, where nothing goes wrong
    folder: Path
    seed: int
    start_s: float = 0.0  # what a run needs before anything is committed
    whole_s: float = 0.0  # and until its end
    struck: Counter[str] = field(default_factory=Counter)
    struck_in: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._urn = Counter(VICTIMS)

    def until_done(
        self, attempt: Attempt, name: str, share: Share, moments: Sequence[float]
    ) -> None:
        """The same command until it succeeds, struck at these shares of its work."""
        left = sorted(moments)
        for _ in range(MAX_ATTEMPTS):
            process = attempt.begin(self.log(name))
            while left and self._lives_until(left[0], process, share):
                del left[0]
                self.struck_in[_quarter(share())] += 1
                self._strike(process, attempt, name)
            if self.end(process, name) == 0:
                return
        self.complaints.append(f"{name}: {MAX_ATTEMPTS} attempts did not finish it")

    def _lives_until(self, moment: float, process: Process, share: Share) -> bool:
        """Wait until that share of the work is done; False if the process ended before.

        Moments below 0 come before anything is committed, those above 1 after everything is.
        """
        if moment < 0:
            process.join(self.random.uniform(0, self.start_s))
            return process.is_alive()
        while process.is_alive() and share() < min(moment, 1.0):
            process.join(LOOK_S)
        late_s = max(moment - 1.0, 0.0) * self.whole_s
        process.join(late_s + self.random.uniform(0, JITTER_S))
        return process.is_alive()

    def _strike(self, process: Process, attempt: Attempt, name: str) -> None:
        """Hit one of those who are there at this moment."""
        pids = {victim: self.raylets.workers(task) for victim, task in TASK_OF.items()}
        victim = self._draw({victim for victim in VICTIMS if pids.get(victim, True)})
        self.struck[victim] += 1
        if victim == "driver":
            process.kill()
        elif victim == "frozen":
            self._freeze(process, attempt, name)
        elif victim == "raylet":
            self.raylets.lose(self.random.randrange(NUM_NODES))
            self.raylets.join()
        elif victim == "drained":
            self.raylets.join()
            self.raylets.drain(0)
            self.raylets.lose(0)
        else:
            kill(self.random.choice(pids[victim]))

    def _draw(self, there: set[str]) -> str:
        if not any(self._urn[victim] for victim in there):
            self._urn.update(VICTIMS)
        lots = sorted(victim for victim in self._urn.elements() if victim in there)
        victim = self.random.choice(lots)
        self._urn[victim] -= 1
        return victim

    def _freeze(self, process: Process, attempt: Attempt, name: str) -> None:
        """Stop a driver until another one has taken over, then let it go on."""
        kill(process.pid, signal.SIGSTOP)
        store = store_at(attempt.output, self.endpoint)
        before, follower = _leases(store), attempt.begin(self.log(name))
        while follower.is_alive() and _leases(store) <= before:
            follower.join(LOOK_S)
        follower.join(self.random.uniform(0, self.whole_s))
        kill(process.pid, signal.SIGCONT)
        process.join(GIVE_UP_S)
        if self.end(follower, name):
            self.complaints.append(f"{name}: the follower of a frozen driver failed")

    def end(self, process: Process, name: str) -> int | None:
        process.join(GIVE_UP_S)
        if process.is_alive():
            self.complaints.append(f"{name}: an attempt hung")
            process.kill()
            process.join()
        self.endings[self._ending(process.exitcode, name)] += 1
        return process.exitcode

    def _ending(self, code: int | None, name: str) -> str:
        """What an attempt that gave up by itself said last."""
        if code != 1:
            return str(code)
        said = RAISED.findall(self.log(name).read_text(errors="replace"))
        return f"1 ({said[-1] if said else 'silent'})"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def summary(
    strikes: Strikes, faults: Faults, complaints: Sequence[str], *counts: tuple[str, int]
) -> str:
    """A table of what was done and seen, and every complaint."""
    rows = [
        ("moments struck", strikes.struck.total()),
        *[(f"of them: {victim}", strikes.struck[victim]) for victim in VICTIMS],
        *[(f"in the {when}", strikes.struck_in[when]) for when in ("start", *QUARTERS)],
        ("attempts by exit code", counted(strikes.endings, "; ")),
        *counts,
        ("requests to S3 broken", f"{faults.seen.total()}: {counted(faults.seen)}"),
        ("seconds when nothing is struck", f"{strikes.whole_s:.0f}"),
        ("complaints", len(complaints)),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join([*lines, "", *[f"- {one}" for one in complaints]]) + "\n"


def counted(counts: Counter[str], between: str = ", ") -> str:
    return between.join(f"{name}: {count}" for name, count in counts.most_common())


def _leases(store: Store) -> list[str]:
    """In the order of their numbers, the last of which holds."""
    return sorted(entry.key for entry in store.entries(f"{leases.FOLDER}/"))[-1:]


def _quarter(share: float) -> str:
    return QUARTERS[min(int(share * 4), 3)] if share else "start"
