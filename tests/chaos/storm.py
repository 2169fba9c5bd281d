"""Runs that are struck at random moments, each held to an undisturbed one.

`python -m tests.chaos.storm --moments 100 --seed 1` kills drivers, executors, transcribers,
decoders and raylets of real runs over a real S3 server behind a proxy that breaks a tenth of the
requests, gives the same command again until it succeeds, compares the tables, and looks for
decoders and copies of recordings that are left.

A moment is a share of the work, not a time, so that a slow machine is struck as late as a fast one.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

from nightscribe.storage import parts
from nightscribe.storage.scratch import _reserved_bytes
from nightscribe.storage.store import Store
from tests.chaos import strikes
from tests.chaos.attempt import Attempt
from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.chaos.raylets import Raylets
from tests.chaos.strikes import LOOK_S, NUM_NODES, Strikes
from tests.chaos.tables import Watcher, archive, store_at, tables
from tests.s3_server import S3Server

STRIKES_PER_RUN = 8
# Moments below 0 come before anything is committed.
START_SHARE = 0.2
# Later runs begin sooner than the first one of a cluster.
WARM_SHARE = 0.3
# How long a decoder and the lock of a copy may stay when the run has ended.
LEFTOVERS_S = 20.0
# So slow that there is time to strike several times.
PAUSE_S = 0.4


@dataclass
class Storm:
    """Strikes a number of times; `complaints` stays empty if nothing can be told afterwards."""

    attempt: Attempt
    strikes: Strikes
    complaints: list[str] = field(default_factory=list)
    num_runs: int = 0
    num_looks: int = 0

    @property
    def _endpoint(self) -> str:
        return self.strikes.endpoint

    def rage(self, num_moments: int, until_s: float) -> None:
        self._be_calm()
        struck = self.strikes.struck
        while struck.total() < num_moments and time.monotonic() < until_s:
            self._one_run(min(STRIKES_PER_RUN, num_moments - struck.total()))

    def _be_calm(self) -> None:
        """The run that nobody disturbs: what the others must come to."""
        calm = replace(self.attempt, output=f"{self.attempt.output}/calm", endpoint=self._endpoint)
        store, began_s = store_at(calm.output, self._endpoint), time.monotonic()
        process = calm.begin(self.strikes.log("calm"))
        while process.is_alive() and not _num_done(store):
            time.sleep(LOOK_S)
        self.strikes.start_s = WARM_SHARE * (time.monotonic() - began_s)
        if self.strikes.end(process, "calm"):
            raise RuntimeError("the run that nobody disturbs did not finish")
        self.strikes.whole_s = time.monotonic() - began_s
        self._expected, self._num_outcomes = tables(store), _num_done(store)

    def _one_run(self, num_strikes: int) -> None:
        self.num_runs += 1
        name = f"run{self.num_runs:03d}"
        attempt = replace(self.attempt, output=f"{self.attempt.output}/{name}")
        store = store_at(attempt.output, self._endpoint)
        moments = [self.strikes.random.uniform(-START_SHARE, 1.0) for _ in range(num_strikes)]
        num_before = len(self.strikes.complaints)
        with Watcher(store) as watcher:
            self.strikes.until_done(
                attempt, name, lambda: _num_done(store) / self._num_outcomes, moments
            )
        self.num_looks += watcher.num_looks
        complaints = self.strikes.complaints[num_before:]
        complaints += [f"{name}: {complaint}" for complaint in watcher.complaints]
        if tables(store) != self._expected:
            complaints.append(f"{name}: the tables are not those of an undisturbed run")
        complaints += [f"{name}: {left}" for left in leftovers(attempt)]
        self.complaints += complaints
        sys.stdout.write(f"{name}: {dict(self.strikes.struck)} {complaints or 'the same'}\n")
        sys.stdout.flush()


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
        raging = Storm(attempt, Strikes(raylets, server.endpoint, folder, seed))
        raging.rage(num_moments, time.monotonic() + limit_s)
        counts = (
            ("runs, each compared with an undisturbed one", raging.num_runs),
            ("looks of a reader meanwhile", raging.num_looks),
        )
        sys.stdout.write(strikes.summary(raging.strikes, proxy.faults, raging.complaints, *counts))
    if not raging.complaints and not keep:
        shutil.rmtree(folder)
    return len(raging.complaints)


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
