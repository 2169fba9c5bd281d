"""`nightscribe status` for runs that are alive, silent and finished."""

import json
import os
import time

import pytest

from nightscribe.jobs.status import StatusConfig, show_status, status_now
from nightscribe.runs.progress import Progress
from nightscribe.storage.s3 import S3Config


def written(folder, state="running", silent_s=0.0, **told):
    document = Progress(run_id="r", num_recordings=4, estimated_s=9.0, state=state).document()
    document |= told
    (folder / "_run").mkdir()
    path = folder / "_run/status.json"
    path.write_text(json.dumps(document))
    os.utime(path, (time.time() - silent_s, time.time() - silent_s))
    return str(folder)


def test_a_run_with_a_fresh_heartbeat_is_running(tmp_path):
    assert status_now(written(tmp_path), S3Config())["state"] == "running"


def test_a_wrong_clock_makes_no_run_silent(tmp_path):
    run = written(tmp_path, updated_at="1999-12-31T23:59:59+00:00")
    assert status_now(run, S3Config())["state"] == "running"


def test_a_run_with_an_old_heartbeat_is_silent(tmp_path):
    status = status_now(written(tmp_path, silent_s=600), S3Config())
    assert status["state"] == "silent"
    assert "same command" in status["detail"]


def test_a_finished_run_stays_finished_however_old(tmp_path, capsys):
    run = written(tmp_path, "finished", silent_s=600)
    assert show_status(StatusConfig(run=run)) == 0
    assert "0 of 4" in capsys.readouterr().out


@pytest.mark.parametrize(("state", "share"), [("running", "90%"), ("stopped", "50%")])
def test_occupancy_is_recent_while_a_run_lives_and_then_that_of_all_of_it(
    tmp_path, capsys, state, share
):
    show_status(StatusConfig(run=written(tmp_path, state, occupancy=0.9, mean_occupancy=0.5)))
    assert f"slot occupancy {share}" in " ".join(capsys.readouterr().out.split())


def test_the_time_left_is_told_where_it_is_known(tmp_path, capsys):
    show_status(StatusConfig(run=written(tmp_path, left_s=3723.0)))
    assert "time left 1:02:03" in " ".join(capsys.readouterr().out.split())


def test_a_folder_without_a_heartbeat_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run has written a heartbeat here"):
        status_now(str(tmp_path), S3Config())


def test_all_runs_below_a_prefix_are_listed_and_those_in_trouble_come_first(tmp_path, capsys):
    for name, state, silent_s in (
        ("a/2019", "finished", 0),
        ("a/2020", "running", 600),
        ("b", "running", 0),
    ):
        (tmp_path / name).mkdir(parents=True)
        written(tmp_path / name, state, silent_s=silent_s)
    assert show_status(StatusConfig(run=str(tmp_path))) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["silent", "a/2020"],
        ["running", "b"],
        ["finished", "a/2019"],
    ]
    show_status(StatusConfig(run=str(tmp_path), format="json"))
    assert json.loads(capsys.readouterr().out)["a/2020"]["state"] == "silent"


def test_runs_that_are_all_finished_are_a_success(tmp_path):
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", "finished")
    assert show_status(StatusConfig(run=str(tmp_path))) == 0
