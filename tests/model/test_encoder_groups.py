"""A GPU encodes in few shapes, however mixed the night, and no job is lost or padded wrongly."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from nightscribe.engine.encoder_prefetch import EncoderPrefetch
from nightscribe.engine.interface import Chunk
from nightscribe.engine.scheduler import IterableSource, Scheduler
from nightscribe.engine.stream import Stream
from nightscribe.model.cuda_graphs import CudaRuntime, EncoderKey
from nightscribe.model.encoder_groups import GroupShapes, SampleStaging, fixed_shapes

CPU = torch.device("cpu")
ROUND_STEPS, FRAME = 25, 4
LISTED = fixed_shapes(64, ROUND_STEPS, reproducible=False)
ON_A_CPU = GroupShapes((8,), max_cells=ROUND_STEPS)


def mixed_night(num_slots=96, seed=0):
    """Chunks of long recordings, clips and fragments, whose end nobody planned."""
    draws = np.random.default_rng(seed)
    lengths = [*draws.integers(200, 400, 60), *draws.integers(1, 120, 900)]
    draws.shuffle(lengths)
    streams = (
        Stream(index, np.full(length * FRAME, index % 999, np.int16), int(length))
        for index, length in enumerate(lengths)
    )
    source, scheduler = IterableSource(streams), Scheduler([num_slots], ROUND_STEPS)
    prefetch = EncoderPrefetch(FRAME, ROUND_STEPS)
    while (planned := scheduler.plan(source, wait=True)) is not None:
        yield prefetch.prepare(planned)[0]


def shapes_of(shapes: GroupShapes) -> set[EncoderKey]:
    return {group.key for chunk in mixed_night() for group in shapes.groups(chunk)}


def test_a_mixed_night_has_no_shape_that_is_not_listed():
    found = shapes_of(LISTED)
    assert found <= set(LISTED.all)
    assert len(LISTED.all) == 4 * 3
    assert len(shapes_of(GroupShapes((64,)))) > 30  # without the list


def test_a_reproducible_engine_has_one_shape():
    assert shapes_of(fixed_shapes(64, ROUND_STEPS, reproducible=True)) == {EncoderKey(64, 25)}


@pytest.mark.parametrize("shapes", [LISTED, GroupShapes((1,)), GroupShapes((7,)), ON_A_CPU])
def test_every_job_is_encoded_once_and_the_end_of_a_stream_before_its_successor(shapes):
    for chunk in mixed_night():
        groups = list(shapes.groups(chunk))
        order = np.concatenate([group.jobs for group in groups])
        assert sorted(order) == list(range(len(chunk.samples)))
        ends = chunk.continues_J[order]
        assert not (~ends[ends.argmax() :]).any() or not ends.any()
        for jobs, key in groups:
            assert len(jobs) <= key.num_rows
            assert chunk.frames_J[jobs].max() <= key.num_frames
            goes_on = chunk.continues_J[jobs]
            assert (chunk.frames_J[jobs][goes_on] == key.num_frames).all()


def test_on_a_cpu_short_chunks_share_a_call_and_long_ones_have_their_own():
    def rows(frames):
        chunk = chunk_of([frames] * 20, [True] * 20)
        return [len(group.jobs) for group in ON_A_CPU.groups(chunk)]

    assert rows(1) == [8, 8, 4]
    assert rows(5) == [5] * 4
    assert rows(25) == [1] * 20
    for chunk in mixed_night():
        for jobs, key in ON_A_CPU.groups(chunk):
            assert len(jobs) == 1 or key.num_rows * key.num_frames <= ROUND_STEPS


def test_little_of_a_night_is_padding():
    num_frames = sum(chunk.frames_J.sum() for chunk in mixed_night())
    encoded = sum(
        group.key.num_rows * group.key.num_frames
        for chunk in mixed_night()
        for group in LISTED.groups(chunk)
    )
    assert encoded < 1.35 * num_frames


def chunk_of(frames, continues, num_frames=ROUND_STEPS):
    num_jobs = len(frames)
    return Chunk(
        num_frames=num_frames,
        frames_J=np.array(frames),
        samples=[np.zeros(1, np.int16)] * num_jobs,
        silent_J=np.zeros(num_jobs, np.int64),
        slots_J=np.arange(num_jobs),
        fresh_J=np.ones(num_jobs, bool),
        continues_J=np.array(continues),
    )


def test_a_live_stream_that_goes_on_is_never_padded():
    (group,) = LISTED.groups(chunk_of([3, 3], [True, True]))
    assert group.key == EncoderKey(8, 3)


@dataclass
class Copied:
    """An event that is done when the host waits for it."""

    waited: int = 0

    def synchronize(self):
        self.waited += 1


def chunk_with(*samples, silent=None):
    silent_J = np.array(silent or [0] * len(samples), np.int64)
    own = [np.array(one, np.int16) for one in samples]
    return replace(chunk_of([1] * len(own), [True] * len(own)), samples=own, silent_J=silent_J)


def test_samples_are_between_silence_whatever_was_there_before():
    staging = SampleStaging(CudaRuntime(CPU, use_graphs=False), 3 * 6, num_buffers=1)
    staging.write(chunk_with([9] * 6, [9] * 6), np.arange(2), 2, 6)
    chunk = chunk_with([1, 2, 3], [7, 7], [4], [], silent=[0, 0, 2, 4])
    rows = staging.write(chunk, np.array([2, 0, 3]), 3, 4)
    assert rows.tolist() == [[0, 0, 4, 0], [1, 2, 3, 0], [0, 0, 0, 0]]


def test_a_buffer_is_not_written_before_the_device_has_copied_it(monkeypatch):
    runtime, copied = CudaRuntime(CPU, use_graphs=False), Copied()
    nothing = chunk_with(), np.arange(0)
    staging = SampleStaging(runtime, 4, num_buffers=2)
    monkeypatch.setattr(runtime, "record_event", lambda: copied)
    staging.write(*nothing, 1, 4)
    staging.mark_copied()
    staging.write(*nothing, 1, 4)
    assert copied.waited == 0
    staging.write(*nothing, 1, 4)
    assert copied.waited == 1
