"""The progress of a run."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest

from nightscribe.results import NewResults, PublishedTranscript
from nightscribe.runs.progress import MAX_HISTORY, Progress
from tests.storage.records import channels_of, failure, heard_all, recording


@pytest.fixture
def progress():
    return Progress(run_id="r", num_recordings=4, estimated_s=100.0, num_done_before=1)


def test_channels_are_parts_of_their_recording(progress):
    left, right = (
        PublishedTranscript(one.recording_id, 2, "ok") for one in channels_of(recording(), 2)
    )
    progress.add_results(NewResults(transcripts=(left,)))
    assert progress.num_done == 1
    progress.add_results(NewResults(transcripts=(right,)))
    assert progress.num_done == 2


def test_a_failed_shard_is_no_failed_recording(progress):
    of = recording()
    shard = heard_all(of, 2)[0].shard
    progress.add_results(NewResults(failures=(failure(of, shard),)))
    assert (progress.num_failures, progress.num_done) == (0, 1)
    progress.add_results(NewResults(failures=(failure(of),)))
    assert (progress.num_failures, progress.num_done) == (1, 2)


def test_what_is_left_follows_the_recent_speed(progress):
    progress._started_s -= 10
    progress.receive(1, 20.0, 3)
    assert progress.speed == pytest.approx(2.0, rel=0.1)
    assert progress.left_s == pytest.approx(40.0, rel=0.1)
    progress.state = "finished"
    assert progress.left_s is None


def test_the_document_holds_no_private_state(progress):
    told = progress.document()
    assert told["num_done"] == 1
    assert not [name for name in told if name.startswith("_")]
    assert replace(progress).document()["run_id"] == "r"


def test_seconds_and_shares_in_the_document_have_no_binary_fractions(progress):
    progress.receive(1, 0.1 + 0.2, 3)
    progress.set_steps(3, 1)
    told = progress.document()
    assert (told["committed_s"], told["transcribed_s"]) == (0.3, 0.3)
    assert told["mean_occupancy"] == told["history"][-1][2] == 0.3333


def test_the_history_stays_short_and_even_however_long_the_run_lasts(progress, monkeypatch):
    now_s = progress._started_s
    monkeypatch.setattr("nightscribe.runs.progress.time.monotonic", lambda: now_s)
    for _ in range(5000):
        now_s += 0.5
        progress.receive(1, 10.0, 3)
    history = progress.document()["history"]
    assert len(history) <= MAX_HISTORY + 1
    assert history[-1][:2] == (2500.0, 50_000.0)
    assert all(heard_s == pytest.approx(20 * elapsed_s) for elapsed_s, heard_s, *_ in history)
    apart_s = [b[0] - a[0] for a, b in pairwise(history[:-1])]
    assert max(apart_s) <= 2 * min(apart_s)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_jumps_changes_neither_speed_nor_what_is_left(progress, monkeypatch, jump_s):
    progress._started_s -= 10
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + jump_s)
    progress.receive(1, 20.0, 3)
    told = progress.document()
    assert told["speed"] == pytest.approx(2.0, rel=0.1)
    assert told["left_s"] == pytest.approx(40.0, rel=0.1)
    assert told["history"][-1][0] == pytest.approx(10.0, rel=0.1)


def test_the_speed_of_a_run_that_has_ended_is_that_of_all_of_it(progress, monkeypatch):
    now_s = progress._started_s
    monkeypatch.setattr("nightscribe.runs.progress.time.monotonic", lambda: now_s)
    for transcribed_s in (0.0, 400.0, 400.0, 400.0):
        now_s += 50.0
        progress.set_transcribed(transcribed_s)
        progress.receive(1, transcribed_s - progress.committed_s, 3)
    assert progress.speed == 0.0  # all of it was there a minute ago
    progress.end("finished")
    assert progress.document()["speed"] == 2.0


def test_progress_moves_with_what_is_transcribed_and_ends_with_what_is_committed(progress):
    assert progress.phase == "starting"
    progress.receive(1, 20.0, 3)
    progress.set_transcribed(50.0)
    assert (progress.transcribed_s, progress.committed_s) == (50.0, 20.0)
    assert progress.phase == "transcribing"
    progress.set_transcribed(45.0)  # a worker died
    assert progress.transcribed_s == 50.0
    progress.end("stopped")
    assert (progress.transcribed_s, progress.phase) == (20.0, "stopped")


def test_the_time_left_is_never_nothing_while_there_is_work(progress):
    progress._started_s -= 10
    progress.receive(1, 400.0, 3)  # four times what was estimated
    assert progress.left_s >= 1.0
    assert progress.phase == "finishing"
