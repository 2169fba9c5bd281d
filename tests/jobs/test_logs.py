"""Logging to stderr and beside the output."""

import json
import logging

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
