"""Nights over one archive that grows, changes, shrinks and is revised, struck at random moments.

`python -m tests.chaos.nights --moments 30 --seed 1`: four nights over a real S3 server behind a
proxy that breaks a tenth of the requests. Drivers, transcribers, decoders and raylets are killed at
random moments, also while replaced rows are removed, and the same command is given again until it
succeeds. A reader looks all the while. In the end the tables must be those of one undisturbed run
over the last state of the archive.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from nightscribe.storage import parts
from nightscribe.storage.generations import generations
from nightscribe.storage.store import Store
from tests.chaos import strikes
from tests.chaos.attempt import Attempt
from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.chaos.raylets import Raylets
from tests.chaos.readers import Content, Reader, content_of, text_of
from tests.chaos.storm import leftovers
from tests.chaos.strikes import NUM_NODES, Strikes
from tests.chaos.tables import archive, keys, read, sound, store_at
from tests.s3_server import S3Server

# Moments below 0 come before anything is committed, those above 1 after everything is.
EARLIEST, LATEST = -0.2, 1.4
STRIKES_PER_NIGHT = 3
# So slow that there is time to strike several times.
PAUSE_S = 0.3
RETIRE_S = 4.0

Row = dict[str, object]


@dataclass(frozen=True)
class Night:
    """What happens to the archive before it, and what the command asks."""

    name: str
    change: Callable[[Store, np.random.Generator], set[str]]  # the files that are removed
    missing: str = "keep"
    model: str = "small"


def add(store: Store, random: np.random.Generator) -> set[str]:
    """Also the first files change."""
    names = _names(store)
    for number in range(max(len(names) // 3, 2)):
        store.write(f"new-{number:04d}.wav", sound(random, random.uniform(1.0, 8.0)))
    _change(store, random, names[: max(len(names) // 4, 2)])
    return set()


def remove(store: Store, random: np.random.Generator) -> set[str]:
    """A few that have changed before, and some change once more."""
    names = _names(store)
    _change(store, random, names[:1])
    gone = names[1 : 1 + max(len(names) // 5, 2)]
    for name in gone:
        store.delete(name)
    return {store.uri(name) for name in gone}


def revise(store: Store, random: np.random.Generator) -> set[str]:
    store.write("last.wav", sound(random, 3.0))
    return set()


def nothing(store: Store, random: np.random.Generator) -> set[str]:
    return set()


NIGHTS = (
    Night("the first", nothing),
    Night("added and changed", add),
    Night("changed and removed", remove, missing="drop"),
    Night("revised", revise, missing="drop", model="large"),
)


def _names(store: Store) -> list[str]:
    return sorted(entry.key for entry in store.entries() if "broken" not in entry.key)


def _change(store: Store, random: np.random.Generator, names: list[str]) -> None:
    for name in names:
        store.write(name, sound(random, random.uniform(1.0, 8.0)))


@dataclass
class Storm:
    """The same nights twice, calm and struck; then the last state once more, alone."""

    attempt: Attempt
    strikes: Strikes
    seed: int
    num_recordings: int
    complaints: list[str] = field(default_factory=list)
    num_looks: int = 0
    num_interrupted: int = 0
    num_nights: int = 0
    _texts: dict[Content, str] = field(default_factory=dict)
    _num_outcomes: list[int] = field(default_factory=list)

    def rage(self, num_moments: int, until_s: float) -> None:
        self._be_calm()
        number = 0
        while self.strikes.struck.total() < num_moments and time.monotonic() < until_s:
            number += 1
            self._one_archive(f"archive{number:02d}", num_moments, until_s)

    def _be_calm(self) -> None:
        """What each night comes to if nothing goes wrong, and one run over the last state."""
        began_s = time.monotonic()
        for night, store, attempt, _ in self._nights("calm"):
            calm = replace(attempt, endpoint=self.strikes.endpoint)
            self._run_calmly(calm, f"calm, {night.name}")
            self._texts |= {content_of(row): text_of(row) for row in rows(store)}
            self._num_outcomes.append(_num_done(store))
        self.strikes.whole_s = (time.monotonic() - began_s) / len(NIGHTS)
        self.strikes.start_s = self.strikes.whole_s / 3
        self._run_calmly(replace(calm, output=f"{calm.output}-alone", revise=False), "alone")
        self._expected = told(store_at(f"{calm.output}-alone", self.strikes.endpoint))
        if told(store) != self._expected:
            difference = first_difference(told(store), self._expected)
            self.complaints.append(f"calm nights do not end like one run: {difference}")

    def _run_calmly(self, attempt: Attempt, name: str) -> None:
        if self.strikes.end(attempt.begin(self.strikes.log(name)), name):
            raise RuntimeError(f"{name}: a run that nobody disturbs did not finish")

    def _one_archive(self, name: str, num_moments: int, until_s: float) -> None:
        before = len(self.strikes.complaints)
        complaints = []
        with ExitStack() as stack:
            reader: Reader | None = None
            for number, (night, store, attempt, gone) in enumerate(self._nights(name)):
                reader = reader or stack.enter_context(Reader(store, self._texts, RETIRE_S))
                reader.expect_gone(gone)
                left = num_moments - self.strikes.struck.total()
                count = min(STRIKES_PER_NIGHT, left) if time.monotonic() < until_s else 0
                self.num_nights += 1
                self._one_night(f"{name}, {night.name}", store, attempt, number, count)
        assert reader is not None
        self.num_looks += reader.num_looks
        self.num_interrupted += reader.num_interrupted
        complaints += [f"{name}: {one}" for one in reader.complaints]
        if told(store) != self._expected:
            difference = first_difference(told(store), self._expected)
            complaints.append(f"{name}: other tables than those of one run: {difference}")
        complaints += [f"{name}: {left}" for left in leftovers(attempt)]
        self.complaints += [*self.strikes.complaints[before:], *complaints]
        sys.stdout.write(f"{name}: {dict(self.strikes.struck)} {complaints or 'the same'}\n")
        sys.stdout.flush()

    def _one_night(
        self, name: str, store: Store, attempt: Attempt, number: int, num_strikes: int
    ) -> None:
        before = _num_done(store) if _revision(store) == _revision_of(number) else 0
        whole = max(self._num_outcomes[number] - before, 1)

        def share() -> float:
            is_begun = _revision(store) == _revision_of(number)
            return (_num_done(store) - before) / whole if is_begun else 0.0

        moments = [self.strikes.random.uniform(EARLIEST, LATEST) for _ in range(num_strikes)]
        self.strikes.until_done(attempt, name, share, moments)

    def _nights(self, name: str) -> Iterator[tuple[Night, Store, Attempt, set[str]]]:
        """The same archive, whatever its name: each night after what happened to it."""
        random = np.random.default_rng([self.seed, 1])  # no sound of the archive comes again
        files = store_at(f"{self.attempt.input}/{name}", self.strikes.endpoint)
        archive(files, self.num_recordings, self.seed)
        output = f"{self.attempt.output}/{name}"
        for number, night in enumerate(NIGHTS):
            gone = night.change(files, random)
            attempt = replace(
                self.attempt,
                input=f"{self.attempt.input}/{name}",
                output=output,
                model=night.model,
                missing=night.missing,
                revise=number > 0 and night.model != NIGHTS[number - 1].model,
            )
            yield night, store_at(output, self.strikes.endpoint), attempt, gone


def rows(store: Store) -> list[Row]:
    return [row for key in keys(store, "transcripts") for row in read(store, key).to_pylist()]


def told(store: Store) -> list[Row]:
    """What readers find in both tables, without what tells the archive's name and the night."""
    found = []
    for table in ("transcripts", "failures"):
        for key in keys(store, table):
            for row in read(store, key).to_pylist():
                name = str(row["uri"]).rpartition("/")[2]
                about = {"table": table, "uri": name, "recording_id": None, "revision": None}
                found.append(row | about | {"detail": None})
    return sorted(found, key=lambda row: (row["table"], row["uri"], row.get("shard") or -1))


def first_difference(found: list[Row], expected: list[Row]) -> str:
    names = [[(row["table"], row["uri"]) for row in rows] for rows in (found, expected)]
    if names[0] != names[1]:
        return f"{sorted(set(names[0]) ^ set(names[1]))}, {len(found)} and {len(expected)} rows"
    for here, there in zip(found, expected, strict=True):
        for column in here:
            if here[column] != there[column]:
                return f"{here['uri']}: {column} {here[column]!r:.200} and {there[column]!r:.200}"
    return "none"


def _num_done(store: Store) -> int:
    """Shards and failures that are committed with the settings of tonight."""
    made = parts.receipts(store, _revision(store))
    return len({(one.recording_id, one.shard_index) for one in made})


def _revision(store: Store) -> int:
    made = generations(store)
    return made[-1].revision if made else 0


def _revision_of(number: int) -> int:
    """The generation that began the settings of a night."""
    return len(NIGHTS) if NIGHTS[number].model != NIGHTS[0].model else 1


def storm(num_moments: int, seed: int, limit_s: float, num_recordings: int, keep: bool) -> int:
    """The number of complaints."""
    folder = Path(mkdtemp(prefix="nightscribe-nights-"))
    with ExitStack() as stack:
        server = stack.enter_context(S3Server())
        os.environ.update(server.environment)
        proxy = stack.enter_context(FaultyS3(server.port, Faults(0.1, seed)))
        raylets = stack.enter_context(Raylets(NUM_NODES))
        bucket = f"s3://{server.new_bucket()}"
        attempt = Attempt(
            input=f"{bucket}/in",
            output=f"{bucket}/out",
            scratch=str(folder / "scratch"),
            address=raylets.address,
            endpoint=proxy.endpoint,
            pause_s=PAUSE_S,
            retire_s=RETIRE_S,
        )
        those = Strikes(raylets, server.endpoint, folder, seed)
        raging = Storm(attempt, those, seed, num_recordings)
        raging.rage(num_moments, time.monotonic() + limit_s)
        counts = (
            (f"nights, in archives of {len(NIGHTS)}", raging.num_nights),
            ("looks of a reader at the whole table", raging.num_looks),
            ("looks that a removed file interrupted", raging.num_interrupted),
        )
        sys.stdout.write(strikes.summary(those, proxy.faults, raging.complaints, *counts))
    if not raging.complaints and not keep:
        shutil.rmtree(folder)
    return len(raging.complaints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recordings", type=int, default=15)
    parser.add_argument("--limit-s", type=float, default=3600.0, help="begin no strikes after it")
    parser.add_argument("--keep", action="store_true", help="keep the logs of every attempt")
    asked = parser.parse_args()
    complaints = storm(asked.moments, asked.seed, asked.limit_s, asked.recordings, asked.keep)
    sys.exit(complaints > 0)


if __name__ == "__main__":
    main()
