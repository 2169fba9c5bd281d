"""A night tells how it ended, to addresses that nothing else ever shows."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nightscribe.jobs.shell import notifications
from nightscribe.jobs.shell.notifications import VARIABLE, check_notifications, notify
from nightscribe.storage.nights import NightReceipt

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def receiver():
    """A webhook on this machine; the messages it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if "broken" in self.path else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"json://user:secret@127.0.0.1:{server.server_port}/hook", got
        server.shutdown()
        thread.join()


def test_the_end_of_a_run_sends_what_is_left(receiver, monkeypatch):
    address, got = receiver
    monkeypatch.setenv(VARIABLE, address)
    receipt = NightReceipt(
        number=2,
        state="stopped",
        stopped_by="the budget of 40 EUR is used up",
        num_recordings=9,
        num_done=5,
        num_transcripts=3,
        cost=40.0,
        currency="EUR",
        gpu_hours=11.4,
    )
    notifications.notify_end("s3://out", receipt)
    (message,) = got
    assert message["title"] == (
        "nightscribe stopped, because the budget of 40 EUR is used up: s3://out"
    )
    assert "5 of 9 recordings are done, 3 transcripts are new, 0 failed" in message["message"]
    assert "4 recordings are left for the next night" in message["message"]


def test_a_stall_sends_a_notification(receiver, monkeypatch):
    address, got = receiver
    monkeypatch.setenv(VARIABLE, address)
    notifications.notify_failure("s3://out", RuntimeError("nothing was finished\nfor 900 s"))
    assert got[0]["title"] == "nightscribe failed: s3://out"
    assert got[0]["message"].startswith("nothing was finished for 900 s")


def test_a_message_that_does_not_arrive_is_logged_without_its_address(receiver, caplog):
    address, _ = receiver
    with caplog.at_level(logging.WARNING, "nightscribe.jobs"):
        notify("title", "body", {VARIABLE: f"{address}/broken"})
    said = [one.message for one in caplog.records if one.name.startswith("nightscribe")]
    assert said == [f"{VARIABLE}: the message to address 1 was not accepted"]
    assert "secret" not in caplog.text


def test_an_address_that_nobody_knows_is_refused_before_the_night_without_being_shown():
    with pytest.raises(ValueError, match="address 2 is not one") as refused:
        check_notifications("transcribe", {VARIABLE: "json://127.0.0.1 sorcery://user:secret@host"})
    assert "secret" not in str(refused.value)


def test_without_addresses_nothing_is_imported_or_sent(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    check_notifications("transcribe", {})
    notify("title", "body", {})
