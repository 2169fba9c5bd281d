"""A queue keeps the slots busy; batches in lockstep hear what they are padded with."""

from ops.benchmarks.queueing import LOCKSTEP, REFILLED, measure_queue, padded_batches, queue
from tests.benchmarks.test_report import parsed
from tests.fakes import HashingModel


def test_slots_that_are_refilled_are_busy_to_the_end():
    table = measure_queue(HashingModel(8), 8, num_clips=400, mean_frames=25, repeats=1)
    occupancy = {row["way"]: float(row["occupancy with drain"]) for row in parsed(table.markdown())}
    assert 0.95 <= occupancy[REFILLED] <= 1
    assert occupancy[LOCKSTEP] < 0.5


def test_every_clip_is_in_one_batch_as_long_as_its_longest():
    streams = queue(frame_samples=4, num_clips=37, mean_frames=20)
    batches = list(padded_batches(streams, num_slots=8))
    assert sorted(s.stream_id for batch in batches for s in batch) == list(range(37))
    for batch in batches:
        longest = max(streams[stream.stream_id].num_frames for stream in batch)
        assert {stream.num_frames for stream in batch} == {longest}


def test_a_queue_is_longest_first():
    lengths = [stream.num_frames for stream in queue(4, num_clips=50, mean_frames=20)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] >= 1
