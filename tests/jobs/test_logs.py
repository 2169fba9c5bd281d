"""Logging to stderr and beside the output."""

import json
import logging
import subprocess
import sys

import pytest

from nightscribe.jobs.shell.logs import LogConfig, logged
from nightscribe.storage.locations import open_store
from nightscribe.storage.s3 import S3Config

log = logging.getLogger("nightscribe.tests")


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "out"), S3Config())


def test_json_lines_hold_the_message_and_its_values(capsys):
    with logged(LogConfig(format="json")):
        log.info("said %d", 2, extra={"uri": "a\nb", "num_words": 3})
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("it failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["message"], first["logger"]) == ("info", "said 2", log.name)
    assert (first["uri"], first["num_words"]) == ("a\nb", 3)
    assert second["error"].splitlines()[-1] == "ValueError: no"


def test_stderr_shows_warnings_and_the_stored_log_has_more(capsys, store):
    with logged(LogConfig()) as kept:
        log.info("quiet")
        log.warning("loud")
        kept.publish_when_due(store, None)
        kept.publish(store, None)
    assert capsys.readouterr().err == "WARNING nightscribe.tests: loud\n"
    (entry,) = store.entries("_run/logs/2")
    lines = [json.loads(line) for line in store.read(entry.key).splitlines()]
    assert [line["message"] for line in lines] == ["quiet", "loud"]


def test_raw_logs_are_stored_only_on_request(store, tmp_path):
    (tmp_path / "session_1/logs/old").mkdir(parents=True)
    (tmp_path / "session_1/logs/old/worker.out").write_text("raw")
    for wanted, expected in ((False, []), (True, ["_run/logs/raw/session_1/old/worker.out"])):
        with logged(LogConfig(raw=wanted)) as kept:
            kept.publish_when_due(store, None)
            kept.publish(store, tmp_path / "session_1")
        assert [entry.key for entry in store.entries("_run/logs/raw")] == expected


def test_no_log_is_stored_before_the_work_has_begun(store):
    with logged(LogConfig()) as kept:
        kept.publish(store, None)
    assert not list(store.entries())


def test_logging_is_restored_afterwards():
    before = logging.getLogger().handlers[:], logging.getLogger().level
    with logged(LogConfig()):
        pass
    assert (logging.getLogger().handlers, logging.getLogger().level) == before


NATIVE = """
import logging, os, sys
from pathlib import Path
from nightscribe.jobs.shell.logs import LogConfig, logged
with logged(LogConfig()) as log:
    os.write(2, b"[2026-11-30 08:46:03,983 E 14659 16556] core_worker.cc:2465: has arguments\\n")
    os.write(2, b"[2026-11-30 08:46:03,983 C 14659 16556] core_worker.cc:99: check failed\\n")
    os.write(2, b"malloc(): corrupted\\n")
    logging.getLogger("ray.data").warning("not for users")
    logging.getLogger("ray.data").error("for users")
    print("by Python", file=sys.stderr)
    import time; time.sleep(0.5)
    Path(sys.argv[1]).write_text(log.path.read_text())
print("afterwards", file=sys.stderr)
os.write(2, b"[2026-11-30 08:46:04,000 E 1 2] after.cc:1: the run\\n")
"""


def test_messages_of_ray_are_logged_and_all_others_shown(tmp_path):
    words = [sys.executable, "-c", NATIVE, str(tmp_path / "log")]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    stored = (tmp_path / "log").read_text()
    assert "has arguments" in stored
    assert "has arguments" not in shown
    assert "not for users" in stored
    assert "not for users" not in shown
    for message in ("check failed", "malloc()", "for users", "by Python", "afterwards", "the run"):
        assert message in shown
