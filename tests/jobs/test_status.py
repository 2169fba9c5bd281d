"""`nightscribe status` for runs that are alive, silent and finished."""

import json
import os
import time

import pytest

from nightscribe.cluster.progress import Progress
from nightscribe.jobs.status import StatusConfig, show_status, status_now
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


def test_a_folder_without_a_heartbeat_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run has written a heartbeat here"):
        status_now(str(tmp_path), S3Config())
