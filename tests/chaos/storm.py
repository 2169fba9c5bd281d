"""Runs that are struck at random moments, each held to an undisturbed one.

`python -m tests.chaos.storm --moments 100 --seed 1` kills drivers, transcribers, decoders and
raylets of real runs over a real S3 server behind a proxy that breaks a tenth of the requests, gives
the same command again until it succeeds, compares the tables, and looks for decoders and copies of
recordings that are left.

A moment is a share of the work, not a time, so that a slow machine is struck as late as a fast one.
"""

import argparse
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from tempfile import mkdtemp

from nightscribe.storage import lease as leases
from nightscribe.storage import parts
from nightscribe.storage.scratch import _reserved_bytes
from nightscribe.storage.store import Store
from tests.chaos.attempt import Attempt
from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.chaos.raylets import Raylets, kill
from tests.chaos.tables import Watcher, archive, store_at, tables
from tests.s3_server import S3Server

# Drawn like lots that are not put back, from those who are there; then from a full urn again.
VICTIMS = {"driver": 5, "transcriber": 7, "decoder": 7, "raylet": 4, "drained": 1, "frozen": 1}
TASK_OF = {"transcriber": "TranscribingActor", "decoder": "read_packets"}
STRIKES_PER_RUN = 8
# Moments below 0 come before anything is committed.
START_SHARE = 0.2
# Later runs begin sooner than the first one of a cluster.
WARM_SHARE = 0.3
JITTER_S = 0.3
LOOK_S = 0.2
# How long a decoder and the lock of a copy may stay when the run has ended.
LEFTOVERS_S = 20.0
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
MAX_ATTEMPTS = 12
GIVE_UP_S = 600.0
NUM_NODES = 2
# So slow that there is time to strike several times.
PAUSE_S = 0.4
# The name of the error at the end of a stack.
RAISED = re.compile(r"^(?:\w+\.)*(\w+(?:Error|Interrupt))\b", re.MULTILINE)


@dataclass
class Storm:
    """Strikes a number of times; `complaints` stays empty if nothing can be told afterwards."""

    attempt: Attempt
    raylets: Raylets
    endpoint: str  # of the S3 server itself, where nothing goes wrong
    folder: Path
    seed: int
    struck: Counter[str] = field(default_factory=Counter)
    struck_in: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    num_runs: int = 0
    num_looks: int = 0
    undisturbed_s: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._urn = Counter(VICTIMS)

    def rage(self, num_moments: int, until_s: float) -> None:
        self._be_calm()
        while self.struck.total() < num_moments and time.monotonic() < until_s:
            self._one_run(min(STRIKES_PER_RUN, num_moments - self.struck.total()))

    def _be_calm(self) -> None:
        """The run that nobody disturbs: what the others must come to."""
        calm = replace(self.attempt, output=f"{self.attempt.output}/calm", endpoint=self.endpoint)
        store, began_s = store_at(calm.output, self.endpoint), time.monotonic()
        process = calm.begin(self._log("calm"))
        while process.is_alive() and not _num_done(store):
            time.sleep(LOOK_S)
        self._start_s = WARM_SHARE * (time.monotonic() - began_s)
        if self._end(process, "calm"):
            raise RuntimeError("the run that nobody disturbs did not finish")
        self.undisturbed_s = time.monotonic() - began_s
        self._expected, self._num_outcomes = tables(store), _num_done(store)

    def _one_run(self, num_strikes: int) -> None:
        self.num_runs += 1
        name = f"run{self.num_runs:03d}"
        attempt = replace(self.attempt, output=f"{self.attempt.output}/{name}")
        store = store_at(attempt.output, self.endpoint)
        with Watcher(store) as watcher:
            self._weather(attempt, name, num_strikes)
        self.num_looks += watcher.num_looks
        complaints = [f"{name}: {complaint}" for complaint in watcher.complaints]
        if tables(store) != self._expected:
            complaints.append(f"{name}: the tables are not those of an undisturbed run")
        complaints += [f"{name}: {left}" for left in leftovers(attempt)]
        self.complaints += complaints
        sys.stdout.write(f"{name}: {dict(self.struck)} {complaints or 'the same'}\n")
        sys.stdout.flush()

    def _weather(self, attempt: Attempt, name: str, num_strikes: int) -> None:
        """The same command until it succeeds, struck a few times."""
        store = store_at(attempt.output, self.endpoint)
        moments = sorted(self._random.uniform(-START_SHARE, 1.0) for _ in range(num_strikes))
        for _ in range(MAX_ATTEMPTS):
            process = attempt.begin(self._log(name))
            while moments and self._lives_until(moments[0], process, store):
                del moments[0]
                self.struck_in[_quarter(self._share(store))] += 1
                self._strike(process, attempt, name)
            if self._end(process, name) == 0:
                return
        self.complaints.append(f"{name}: {MAX_ATTEMPTS} attempts did not finish it")

    def _lives_until(self, moment: float, process: Process, store: Store) -> bool:
        """Wait until that share of the work is done; False if the process ended before."""
        if moment < 0:
            process.join(self._random.uniform(0, self._start_s))
            return process.is_alive()
        while process.is_alive() and self._share(store) < moment:
            process.join(LOOK_S)
        process.join(self._random.uniform(0, JITTER_S))
        return process.is_alive()

    def _share(self, store: Store) -> float:
        return _num_done(store) / self._num_outcomes

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
            self.raylets.lose(self._random.randrange(NUM_NODES))
            self.raylets.join()
        elif victim == "drained":
            self.raylets.join()
            self.raylets.drain(0)
            self.raylets.lose(0)
        else:
            kill(self._random.choice(pids[victim]))

    def _draw(self, there: set[str]) -> str:
        if not any(self._urn[victim] for victim in there):
            self._urn.update(VICTIMS)
        lots = sorted(victim for victim in self._urn.elements() if victim in there)
        victim = self._random.choice(lots)
        self._urn[victim] -= 1
        return victim

    def _freeze(self, process: Process, attempt: Attempt, name: str) -> None:
        """Stop a driver until another one has taken over, then let it go on."""
        kill(process.pid, signal.SIGSTOP)
        store = store_at(attempt.output, self.endpoint)
        before, follower = _leases(store), attempt.begin(self._log(name))
        while follower.is_alive() and _leases(store) <= before:
            follower.join(LOOK_S)
        follower.join(self._random.uniform(0, self.undisturbed_s))
        kill(process.pid, signal.SIGCONT)
        process.join(GIVE_UP_S)
        if self._end(follower, name):
            self.complaints.append(f"{name}: the follower of a frozen driver failed")

    def _end(self, process: Process, name: str) -> int | None:
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
        said = RAISED.findall(self._log(name).read_text(errors="replace"))
        return f"1 ({said[-1] if said else 'silent'})"

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def leftovers(attempt: Attempt) -> list[str]:
    """Decoders that outlive the run, and copies of recordings that somebody still holds."""
    deadline_s = time.monotonic() + LEFTOVERS_S
    while (found := [*_decoders(attempt), *_held(attempt)]) and time.monotonic() < deadline_s:
        time.sleep(LOOK_S)
    return found


def _decoders(attempt: Attempt) -> Iterator[str]:
    places = [attempt.input.encode(), attempt.scratch.encode()]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"ffmpeg" in words[0] and any(place in word for place in places for word in words):
                yield f"decoder {process.name} outlives the run"


def _held(attempt: Attempt) -> Iterator[str]:
    """The copies of killed readers go when the next reader looks; one that is locked cannot."""
    for folder in Path(attempt.scratch).glob("reserved-*"):
        if _reserved_bytes(folder):
            yield f"{folder} is still held"


def _num_done(store: Store) -> int:
    """Shards and failures that are committed."""
    return len({(one.recording_id, one.shard_index) for one in parts.receipts(store)})


def _leases(store: Store) -> list[str]:
    """In the order of their numbers, the last of which holds."""
    return sorted(entry.key for entry in store.entries(f"{leases.FOLDER}/"))[-1:]


def _quarter(share: float) -> str:
    return QUARTERS[min(int(share * 4), 3)] if share else "start"


def storm(
    num_moments: int,
    seed: int,
    limit_s: float,
    num_recordings: int,
    keep: bool,
    num_executors: int = 1,
) -> int:
    """The number of complaints."""
    folder = Path(mkdtemp(prefix="nightscribe-storm-"))
    with ExitStack() as stack:
        server = stack.enter_context(S3Server())
        os.environ.update(server.environment)
        proxy = stack.enter_context(FaultyS3(server.port, Faults(0.1, seed)))
        raylets = stack.enter_context(Raylets(NUM_NODES))
        bucket = f"s3://{server.new_bucket()}"
        archive(store_at(f"{bucket}/in", server.endpoint), num_recordings, seed)
        attempt = Attempt(
            input=f"{bucket}/in",
            output=f"{bucket}/out",
            scratch=str(folder / "scratch"),
            address=raylets.address,
            endpoint=proxy.endpoint,
            pause_s=PAUSE_S,
            num_executors=num_executors,
        )
        raging = Storm(attempt, raylets, server.endpoint, folder, seed)
        raging.rage(num_moments, time.monotonic() + limit_s)
        sys.stdout.write(told(raging, proxy.faults))
    if not raging.complaints and not keep:
        shutil.rmtree(folder)
    return len(raging.complaints)


def told(storm: Storm, faults: Faults) -> str:
    lines = [
        f"| moments struck | {storm.struck.total()} |",
        *[f"| of them: {victim} | {storm.struck[victim]} |" for victim in VICTIMS],
        *[f"| in the {when} | {storm.struck_in[when]} |" for when in ("start", *QUARTERS)],
        f"| runs, each compared with an undisturbed one | {storm.num_runs} |",
        f"| attempts by exit code | {_told(storm.endings, '; ')} |",
        f"| requests to S3 broken | {faults.seen.total()}: {_told(faults.seen)} |",
        f"| looks of a reader meanwhile | {storm.num_looks} |",
        f"| seconds of the undisturbed run | {storm.undisturbed_s:.0f} |",
        f"| complaints | {len(storm.complaints)} |",
        "",
        *[f"- {complaint}" for complaint in storm.complaints],
    ]
    return "\n".join(lines) + "\n"


def _told(counts: Counter[str], between: str = ", ") -> str:
    return between.join(f"{name}: {count}" for name, count in counts.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recordings", type=int, default=36)
    parser.add_argument("--limit-s", type=float, default=4 * 3600.0)
    parser.add_argument("--keep", action="store_true", help="keep the logs of every attempt")
    parser.add_argument("--executors", type=int, default=1)
    asked = parser.parse_args()
    complaints = storm(
        asked.moments, asked.seed, asked.limit_s, asked.recordings, asked.keep, asked.executors
    )
    sys.exit(complaints > 0)


if __name__ == "__main__":
    main()
