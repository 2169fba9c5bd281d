"""A run in this process: the tables of one on Ray, without Ray."""

import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nightscribe.local.execution import LocalExecution
from nightscribe.records import PlannedRecording
from nightscribe.runs.attempt import RunBrokenError, RunSpec, work_through
from nightscribe.runs.config import IntervalsConfig
from nightscribe.runs.progress import Progress
from nightscribe.runs.shards import CutShard
from nightscribe.storage.run import write_plan
from tests.cluster.stages import plan_file, read, recording, stages

SEVERAL = [recording(n, duration_s=0.5 + n % 7) for n in range(20)]


def order(recordings, folder: Path, **behaviour) -> RunSpec:
    folder.mkdir(exist_ok=True)
    return RunSpec(
        plan=plan_file(recordings, folder),
        settings={"model": "hashing"},
        stages=stages(folder / "out", **behaviour),
        examine=lambda transcript: transcript,
        intervals=IntervalsConfig(commit_s=0.2, publish_s=0.5, heartbeat_s=0.1, retire_s=0.0),
    )


def run(what: RunSpec, stop=None, tell=lambda progress: None) -> Progress:
    def opened(begun):
        return LocalExecution(begun, what.stages, num_readers=2)

    return work_through(what, opened, stop or threading.Event(), tell)


def table(output: Path, name="transcripts") -> list[dict]:
    files = sorted((output / name).glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: row["recording_id"])


def words(output: Path) -> dict[str, list[str]]:
    return {row["recording_id"]: [word["text"] for word in row["words"]] for row in table(output)}


def status(output: Path) -> dict:
    return json.loads((output / "_run/status.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Progress]:
    folder = tmp_path_factory.mktemp("finished")
    return folder / "out", run(order([*SEVERAL, recording(0, kind="bad")], folder))


def test_every_recording_has_a_row_and_the_counts_say_so(finished):
    output, progress = finished
    assert (progress.state, progress.num_done, progress.num_failures) == ("finished", 21, 1)
    assert len(table(output)) == 20
    (failed,) = table(output, "failures")
    assert (failed["stage"], failed["reason"]) == ("decode", "no_audio")
    told = status(output)
    assert told["num_shards"] == sum(len(list(read(one))) for one in SEVERAL) + 1
    assert told["transcribed_s"] == pytest.approx(sum(one.expected_s or 0.0 for one in SEVERAL))
    assert 0 < told["mean_occupancy"] <= 1
    stages_told = {wait["stage"] for wait in told["waits"]}
    assert stages_told == {"fetch and decode", "load the model", "transcribe", "commit", "publish"}


def test_what_is_done_is_not_done_again(finished, tmp_path):
    output, _ = finished
    before = {path: path.read_bytes() for path in output.glob("*/*.parquet")}
    what = order([*SEVERAL, recording(0, kind="bad")], tmp_path)
    what = replace(what, stages=replace(what.stages, output=str(output), read=no_one))
    again = run(what)
    assert (again.state, again.num_left) == ("finished", 0)
    assert {path: path.read_bytes() for path in output.glob("*/*.parquet")} == before


def no_one(_):
    raise AssertionError("nothing is left to read")


def test_a_file_that_changed_and_fails_again_is_one_failure(tmp_path):
    bad = recording(0, kind="bad")
    assert run(order([bad], tmp_path)).num_failures == 1
    again = run(order([replace(bad, version="changed")], tmp_path))
    assert (again.num_done, again.num_failures) == (1, 1)
    assert len(table(tmp_path / "out", "failures")) == 1


def test_a_run_that_is_asked_to_stop_ends_what_had_begun_and_the_next_one_goes_on(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setattr("nightscribe.local.worker.SHARDS_IN_FLIGHT", 4)
    stop = threading.Event()

    def after_some(progress):
        if progress.num_shards:
            stop.set()

    what = order([*SEVERAL, recording(0, kind="bad")], tmp_path, num_slots=1, pause_s=0.1)
    stopped = run(what, stop, after_some)
    assert stopped.state == "stopped"
    assert 0 < stopped.num_shards < 60
    assert status(tmp_path / "out")["detail"].endswith("recordings are left")
    resumed = run(what)
    assert resumed.state == "finished"
    assert resumed.num_shards > 0
    assert stopped.num_shards + resumed.num_shards == finished[1].num_shards
    assert words(tmp_path / "out") == words(finished[0])


def test_copies_are_published_with_their_original(tmp_path):
    what = order(SEVERAL[:1], tmp_path)
    copy = replace(SEVERAL[0], uri="s3://archive/copy.wav")
    planned = [
        PlannedRecording(recording=SEVERAL[0], window=0, estimated_s=0.5),
        PlannedRecording(
            recording=copy, window=0, estimated_s=0.5, duplicate_of=SEVERAL[0].recording_id
        ),
    ]
    write_plan(planned, what.plan)
    progress = run(what)
    assert progress.num_done == 2
    rows = table(tmp_path / "out")
    assert {row["duplicate_of"] for row in rows} == {None, SEVERAL[0].recording_id}
    assert rows[0]["words"] == rows[1]["words"]


def test_an_empty_plan_is_finished_at_once(tmp_path):
    progress = run(order([], tmp_path))
    assert (progress.state, progress.num_done) == ("finished", 0)
    assert not table(tmp_path / "out")


class Dying:
    """A transcriber whose engine dies at its first clip."""

    model = model_revision = "m"
    has_died, stats = False, None

    def submit(self, clip):
        self.has_died = True
        raise RuntimeError("out of memory")


def test_an_engine_that_dies_ends_the_run_and_is_told_to_the_next_attempt(tmp_path):
    what = order(SEVERAL[:2], tmp_path)
    deadly = replace(what, stages=replace(what.stages, make_transcriber=Dying))
    with pytest.raises(RunBrokenError, match="the engine has died: out of memory"):
        run(deadly)
    assert status(tmp_path / "out")["state"] == "failed"
    assert not table(tmp_path / "out", "failures")
    known = []

    def opened(begun):
        known.append(begun.has_died_before)
        return LocalExecution(begun, what.stages, num_readers=1)

    for _ in range(2):
        work_through(what, opened, threading.Event(), lambda progress: None)
    assert known == [True, False]


def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path):
    what = order(SEVERAL[:2], tmp_path)
    broken = replace(what, stages=replace(what.stages, make_transcriber=partial(int, "none")))
    with pytest.raises(ValueError, match="none"):
        run(broken)
    assert status(tmp_path / "out")["state"] == "failed"


class Counting:
    """Reads a long recording, and counts how many of its shards wait for a transcriber."""

    def __init__(self, done):
        self.done, self.num_read, self.most_ahead = done, 0, 0

    def __call__(self, one):
        for cut in read(one):
            self.num_read += isinstance(cut, CutShard)
            self.most_ahead = max(self.most_ahead, self.num_read - len(self.done))
            yield cut


def test_readers_wait_for_the_transcriber(tmp_path, monkeypatch):
    monkeypatch.setattr("nightscribe.local.worker.SHARDS_IN_FLIGHT", 5)
    done = []

    def tell(progress):
        done[:] = range(progress.num_shards)

    what = order([recording(0, duration_s=60.0)], tmp_path)
    reader = Counting(done)
    what = replace(what, stages=replace(what.stages, read=reader))
    assert run(what, tell=tell).state == "finished"
    assert reader.num_read == 30
    assert reader.most_ahead <= 30 - 5
