"""A queue of clips of many lengths: refilled slots compared with padded batches in lockstep."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from nightscribe.benchmarks.measurements import in_turns, medians, noise
from nightscribe.benchmarks.report import Table
from nightscribe.engine.interface import StepModel
from nightscribe.engine.loop import Engine, step_engine
from nightscribe.engine.stream import Stream

REFILLED, LOCKSTEP = "slots refilled at once", "padded batches in lockstep"


def measure_queue(
    model: StepModel, num_slots: int, num_clips: int, mean_frames: int, repeats: int
) -> Table:
    """The same engine and clips both ways; lengths are drawn from an exponential distribution."""
    streams = queue(model.frame_samples, num_clips, mean_frames)
    num_frames = sum(stream.num_frames for stream in streams)
    refilled, lockstep = step_engine(model), step_engine(model)
    actions = {
        REFILLED: partial(_run_refilled, refilled, streams),
        LOCKSTEP: partial(_run_lockstep, lockstep, streams, num_slots),
    }
    elapsed = in_turns(actions, repeats, torch.device("cpu"))
    times = {name: medians(several) for name, several in elapsed.items()}
    slowest = times[LOCKSTEP]
    rounds = {REFILLED: refilled.stats, LOCKSTEP: lockstep.stats}
    wanted = (num_frames + num_clips) * (repeats + 1)
    return Table(
        title="A queue of clips of many lengths",
        columns=("way", "ms a frame", "occupancy with drain", "times as fast", "CPU time"),
        rows=[
            (
                name,
                1e3 * time.wall_s / num_frames,
                wanted / rounds[name].num_slot_steps,
                slowest.wall_s / time.wall_s,
                slowest.cpu_s / time.cpu_s,
            )
            for name, time in times.items()
        ],
        notes=(
            f"{num_clips} clips, {num_frames} frames, the longest {streams[0].num_frames}; "
            f"{num_slots} slots. Refilled: longest first. In lockstep: in order of arrival, "
            f"each batch padded to its longest. Medians of {repeats} in turns. Occupancy: steps "
            "that process a clip / all steps of all slots.",
        ),
    )


def queue(frame_samples: int, num_clips: int, mean_frames: int) -> list[Stream]:
    """Clips of noise, longest first."""
    lengths = np.random.default_rng(1).exponential(mean_frames, num_clips).astype(int) + 1
    audio_N = noise(int(lengths.max()) * frame_samples)
    return [
        Stream(index, audio_N[: length * frame_samples], int(length))
        for index, length in enumerate(sorted(lengths, reverse=True))
    ]


def _run_refilled(engine: Engine, streams: list[Stream]) -> None:
    assert sum(1 for _ in engine.run(streams)) == len(streams)


def _run_lockstep(engine: Engine, streams: list[Stream], num_slots: int) -> None:
    for batch in padded_batches(streams, num_slots):
        assert sum(1 for _ in engine.run(batch)) == len(batch)


def padded_batches(streams: list[Stream], num_slots: int) -> Iterator[list[Stream]]:
    """Batches in order of arrival; every stream of a batch is as long as its longest."""
    arrived = np.random.default_rng(2).permutation(len(streams))
    for first in range(0, len(arrived), num_slots):
        batch = [streams[index] for index in arrived[first : first + num_slots]]
        longest = max(stream.num_frames for stream in batch)
        yield [replace(stream, num_frames=longest) for stream in batch]
