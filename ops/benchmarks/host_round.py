"""What the host does for a round of many short clips, part by part; needs no GPU.

    python -m ops.benchmarks.host_round 256 10

Every slot holds a clip of ten seconds or so, each at another place. The parts: planning, laying out
the steps, copying the samples to where the GPU reads them, and reading the output.
"""

import sys
from collections.abc import Callable, Iterator
from statistics import median
from time import process_time

import numpy as np
import torch

from nightscribe.benchmarks.measurements import ROUND_STEPS, noise
from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table, conditions
from nightscribe.engine.encoder_prefetch import EncoderPrefetch
from nightscribe.engine.interface import Chunk, RoundOutput
from nightscribe.engine.output_reader import OutputReader
from nightscribe.engine.scheduler import IterableSource, Scheduler
from nightscribe.engine.stream import Stream
from nightscribe.model.cuda_graphs import CudaRuntime
from nightscribe.model.encoder_groups import GroupShapes, SampleStaging, fixed_shapes

NUM_ROUNDS, WARM_UP_ROUNDS = 60, 12
ENCODE_ROWS = 64
PARTS = ("plan", "lay out", "copy samples", "read")


def clips(num_clips: int, clip_s: float) -> Iterator[Stream]:
    """Clips of nearly one length, so that some end in every round."""
    config = config_of("1b")
    sound_N = noise(int(clip_s * 1.2 * config.mimi.sample_rate_hz))
    lengths = np.random.default_rng(0).uniform(0.8, 1.2, num_clips) * clip_s
    for index, length_s in enumerate(lengths):
        own_N = sound_N[: int(length_s * config.mimi.sample_rate_hz)]
        num_frames = config.num_frames(len(own_N))
        before = config.prefix_frames * config.mimi.frame_samples
        yield Stream(index, own_N, num_frames, num_silent_samples=before)


def measure(num_slots: int, clip_s: float) -> dict[str, float]:
    """Milliseconds of CPU time per round of each part, medians."""
    frame_samples = config_of("1b").mimi.frame_samples
    source = IterableSource(clips(num_slots * NUM_ROUNDS, clip_s))
    scheduler = Scheduler([num_slots], ROUND_STEPS)
    prefetch = EncoderPrefetch(frame_samples, ROUND_STEPS)
    runtime = CudaRuntime(torch.device("cpu"), use_graphs=False)
    shapes = fixed_shapes(ENCODE_ROWS, ROUND_STEPS, reproducible=False)
    staging = SampleStaging(runtime, ENCODE_ROWS * ROUND_STEPS * frame_samples, num_buffers=16)
    reader = OutputReader(num_vad_heads=4)
    output = RoundOutput(
        np.zeros((ROUND_STEPS, num_slots), np.int32),
        np.zeros((ROUND_STEPS, num_slots), np.float32),
        np.zeros((ROUND_STEPS, num_slots, 4), np.float32),
    )
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(NUM_ROUNDS):
        planned = _timed(times["plan"], lambda: scheduler.plan(source, wait=True))
        chunk, _ = _timed(times["lay out"], lambda one=planned: prefetch.prepare(one))
        _timed(times["copy samples"], lambda one=chunk: _stage_all(staging, shapes, one))
        _timed(times["read"], lambda one=planned: list(reader.read(one, output)))
    return {part: 1e3 * median(values[WARM_UP_ROUNDS:]) for part, values in times.items()}


def _stage_all(staging: SampleStaging, shapes: GroupShapes, chunk: Chunk) -> None:
    frame_samples = config_of("1b").mimi.frame_samples
    for jobs, key in shapes.groups(chunk):
        staging.write(chunk, jobs, key.num_rows, key.num_frames * frame_samples)


def _timed(times: list[float], action: Callable):
    began_s = process_time()
    result = action()
    times.append(process_time() - began_s)
    return result


def main(num_slots: int, clip_s: float) -> None:
    parts = measure(num_slots, clip_s)
    table = Table(
        title=f"The host's part of a round: {num_slots} slots, clips of {clip_s:g} s",
        columns=("part", "CPU ms"),
        rows=[*parts.items(), ("all", sum(parts.values()))],
        notes=(
            f"CPU time, medians of {NUM_ROUNDS - WARM_UP_ROUNDS} rounds of {ROUND_STEPS} steps.",
        ),
    )
    lines = conditions(torch.device("cpu"))[:2]
    sys.stdout.write("\n".join((*(f"- {line}" for line in lines), "", table.markdown())))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
