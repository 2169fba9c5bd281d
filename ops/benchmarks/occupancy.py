"""Whether slots stay full with recordings of many lengths, which are never cut.

    python -m ops.benchmarks.occupancy spread [SLOTS [RECORDINGS [STEP_MS]]]
    python -m ops.benchmarks.occupancy clips [SLOTS [RECORDINGS [STEP_MS]]]
    python -m ops.benchmarks.occupancy short [SLOTS [RECORDINGS [STEP_MS]]]
    python -m ops.benchmarks.occupancy long [SLOTS [RECORDINGS [STEP_MS]]]

spread: from 2 s to 20 min, evenly over the logarithm. clips: nine of 1 s for each of 45 s. short: 1
to 3 s. long: 10 to 20 min, a few for each slot.

The whole pipeline on Ray, with a fake model of constant step time and made-up sound: on two cores
real decoding is slower than dozens of fake slots, and would be what is measured.
"""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.ray_session import connected
from nightscribe.cluster.resources import Pool
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording, Shard
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.config import ClusterConfig, RayConfig
from nightscribe.runs.shards import CutShard, Stages
from nightscribe.storage.locations import S3Config
from nightscribe.storage.run import write_plan
from ops.benchmarks.made_up import as_it_is
from ops.benchmarks.stand_in import FRAME_S, STEP_S, Diary, Noted, paced_transcriber

RATE_HZ = 24_000
# Of the table that shows when slots were empty.
NUM_ROWS = 20


def spread(num_recordings: int) -> np.ndarray:
    return np.geomspace(2, 1200, num_recordings)


def clips(num_recordings: int) -> np.ndarray:
    return np.where(np.arange(num_recordings) % 10, 1.0, 45.0)


def short(num_recordings: int) -> np.ndarray:
    return np.linspace(1, 3, num_recordings)


def long(num_recordings: int) -> np.ndarray:
    return np.linspace(600, 1200, num_recordings)


MIXES: dict[str, tuple[Callable[[int], np.ndarray], int]] = {
    "spread": (spread, 500),
    "clips": (clips, 20_000),
    "short": (short, 20_000),
    "long": (long, 100),
}


def main() -> None:
    name, *numbers = sys.argv[1:]
    lengths_s, num_recordings = MIXES[name]
    num_slots = int(numbers[0]) if numbers else 32
    num_recordings = int(numbers[1]) if numbers[1:] else num_recordings
    step_s = float(numbers[2]) / 1000 if numbers[2:] else STEP_S
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with connected(RayConfig(), ClusterConfig()):
            lines = occupancy(Path(folder), lengths_s(num_recordings), num_slots, step_s)
        sys.stdout.write("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the engine was when a recording came to it or left it."""

    at_s: float
    num_inside: int
    num_live_steps: int
    num_slot_steps: float  # with those that it would have made while it had nothing


def occupancy(folder: Path, lengths_s: np.ndarray, num_slots: int, step_s: float) -> list[str]:
    """The share of slot-steps that had a stream.

    A round that the host began late, because the machine had other work, counts as long as it is;
    "by the clock" it counts as long as it took.
    """
    diary, rate = Diary(folder / "diary.jsonl"), num_slots / step_s
    run(folder, lengths_s, partial(paced_transcriber, diary, num_slots, step_s), num_slots)
    notes = diary.read()
    all_ = list(moments(notes, rate))
    last_begin = max(number for number, note in enumerate(notes) if note.begins)
    steady, whole = all_[: last_begin + 1], all_
    naive = waiting(lengths_s, num_slots)
    return [
        f"{len(lengths_s)} recordings, {sum(lengths_s) / 3600:.1f} h, {num_slots} slots, "
        f"{1000 * step_s:.0f} ms a step ({FRAME_S / step_s:.1f} x real time in each slot), "
        f"{all_[-1].at_s - all_[0].at_s:.0f} s",
        "",
        "| slots in use | share | by the clock |",
        "|---|---|---|",
        f"| until the last recording was handed over | {row(steady, rate)} |",
        f"| with the drain | {row(whole, rate)} |",
        f"| batches that wait for their longest (arithmetic) | {naive:.3f} | |",
        "",
        "| after s | recordings in the actor | slots in use | by the clock |",
        "|---|---|---|---|",
        *course(all_, rate),
    ]


def moments(notes: list[Noted], rate: float) -> Iterator[Moment]:
    num_inside, empty_s, before_s = 0, 0.0, notes[0].at_s
    for note in notes:
        empty_s += 0.0 if num_inside else note.at_s - before_s
        num_inside += 1 if note.begins else -1
        before_s = note.at_s
        num_steps = note.num_slot_steps + rate * empty_s
        yield Moment(note.at_s, num_inside, note.num_live_steps, num_steps)


def course(all_: list[Moment], rate: float) -> Iterator[str]:
    """A row for each twentieth of the time."""
    begun, interval_s = 0, (all_[-1].at_s - all_[0].at_s) / NUM_ROWS
    for number, now in enumerate(all_):
        if now.at_s - all_[begun].at_s >= interval_s:
            some = all_[begun : number + 1]
            yield f"| {now.at_s - all_[0].at_s:.1f} | {now.num_inside} | {row(some, rate)} |"
            begun = number


def row(some: list[Moment], rate: float) -> str:
    first, last = some[0], some[-1]
    used = last.num_live_steps - first.num_live_steps
    made = max(last.num_slot_steps - first.num_slot_steps, 1.0)
    by_clock = max(rate * (last.at_s - first.at_s), 1.0)
    return f"{used / made:.3f} | {used / by_clock:.3f}"


def waiting(lengths_s: np.ndarray, num_slots: int) -> float:
    shuffled_s = np.random.default_rng(0).permutation(lengths_s)
    starts = range(0, len(shuffled_s), num_slots)
    longest_s = [shuffled_s[start : start + num_slots].max() for start in starts]
    return float(shuffled_s.sum() / (num_slots * sum(longest_s)))


def run(folder: Path, lengths_s: np.ndarray, make_transcriber: Callable, num_slots: int) -> None:
    path = folder / "plan.parquet"
    write_plan(plan(made_up(lengths_s), lambda one: one.uri, PlanningConfig()), path)
    spec = RunSpec(
        plan=path,
        settings={"benchmark": True},
        stages=Stages(
            read=read,
            make_transcriber=make_transcriber,
            output=str(folder / "out"),
            s3=S3Config(),
            max_shard_s=None,
        ),
        examine=as_it_is,
    )
    pool = Pool(
        num_actors=1,
        gpus_per_actor=0.0,
        cpus_per_actor=0.5,
        num_audio_workers=1,
        num_slots=num_slots,
    )
    transcribe(spec, pool, threading.Event(), lambda progress: None)


def made_up(lengths_s: np.ndarray) -> Iterator[Recording]:
    for number, length_s in enumerate(lengths_s.tolist()):
        yield Recording(
            uri=f"s3://made-up/recording-{number:07d}.flac",
            size_bytes=round(40_000 * length_s),
            version="1",
            expected_s=length_s,
        )


def read(recording: Recording) -> Iterator[CutShard]:
    """One shard of real size, without the work of decoding it."""
    num_samples = round((recording.expected_s or 0.0) * RATE_HZ)
    shard = Shard(
        recording=recording,
        index=0,
        sample_rate_hz=RATE_HZ,
        start_sample=0,
        end_sample=num_samples,
        owned_start_sample=0,
        owned_end_sample=num_samples,
        is_last=True,
    )
    yield CutShard(shard, np.zeros(num_samples, np.int16))


if __name__ == "__main__":
    main()
