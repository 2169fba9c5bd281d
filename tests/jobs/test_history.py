"""The receipts of nights, the limits that end them, and what `nightscribe history` says."""

import json
import threading

import pytest

from nightscribe.budget import Limits
from nightscribe.jobs.history import HistoryConfig, history
from nightscribe.jobs.shell.night_log import NightLog, describe_receipt
from nightscribe.jobs.shell.workplace import Workers
from nightscribe.records import PlannedRecording
from nightscribe.runs.progress import Progress
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.nights import read_receipts
from nightscribe.storage.plan_changes import Revision
from nightscribe.storage.run import Night, begin, write_plan
from tests.storage.records import recording
from tests.terminals import SIZES, Terminal

LIMITS = Limits(budget_s=100.0, budget="40 EUR", cost_per_s=0.4)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "out"), S3Config())


def plan(store, tmp_path, names, model="tiny", **asked):
    path = tmp_path / "plan.parquet"
    planned = [
        PlannedRecording(recording=recording(name), window=0, estimated_s=1.0) for name in names
    ]
    write_plan(planned, path)
    begin(store, path, {"model": model}, Night(**asked))


def night_log(store, limits=LIMITS, stop=None):
    workers = Workers(num_devices=2.0, num_slots=8)
    return NightLog(store, workers, limits, "EUR", stop or threading.Event())


def progress(elapsed_s=0.0, **told):
    one = Progress(run_id="r", num_recordings=9, estimated_s=9.0, **told)
    one._updated_s = one._started_s + elapsed_s
    return one


def test_a_night_stops_once_its_budget_is_used_up_and_says_so(store, tmp_path):
    stop = threading.Event()
    log = night_log(store, stop=stop)
    plan(store, tmp_path, "abc")
    log.show(progress(elapsed_s=99.0))
    assert not stop.is_set()
    log.show(progress(elapsed_s=101.0))
    assert stop.is_set()
    receipt = log.end(progress(elapsed_s=102.0, state="stopped", num_done_before=5))
    assert read_receipts(store) == [receipt]
    assert (receipt.state, receipt.num_left, receipt.num_by_change) == ("stopped", 4, {"added": 3})
    assert (receipt.cost, receipt.gpu_hours) == (pytest.approx(40.8), pytest.approx(0.0567))
    assert describe_receipt(receipt) == [
        "cost 40.80 EUR: 0.06 GPU-hours",
        "stopped, because the budget of 40 EUR is used up",
        "4 recordings are left for the next night",
    ]


def test_a_night_that_ends_within_its_limits_was_stopped_by_nothing(store, tmp_path):
    log = night_log(store)
    log.show(progress(elapsed_s=101.0))
    assert log.end(progress(elapsed_s=102.0, state="finished")).stopped_by is None


def test_a_stop_that_a_person_asked_for_is_no_limit(store):
    stop = threading.Event()
    stop.set()
    log = night_log(store, stop=stop)
    log.show(progress(elapsed_s=101.0))
    assert log.end(progress(elapsed_s=102.0, state="stopped")).stopped_by is None


def test_history_lists_every_night_also_those_that_were_killed(store, tmp_path, capsys):
    killed = night_log(store)
    plan(store, tmp_path, "abc")
    killed.show(progress(elapsed_s=1.0))
    second = night_log(store)
    plan(store, tmp_path, "abd", model="large", revision=Revision())
    second.show(progress(elapsed_s=1.0))
    second.end(progress(elapsed_s=50.0, state="finished", num_done_before=9))
    night_log(store).end(progress(state="finished"))
    assert history(HistoryConfig(run=str(tmp_path / "out"))) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.split()[0] == "night"
    assert "killed" in lines[0]
    assert "3 added" in lines[0]
    assert "1 added, 2 asked, 1 gone" in lines[1]
    assert "20.00 EUR" in lines[1]
    assert " - " in lines[2]
    assert lines[3] == "revision 2: model tiny -> large"


def test_nights_without_a_price_have_no_column_for_it(store, tmp_path, capsys):
    plan(store, tmp_path, "abc")
    night_log(store, Limits()).end(progress(state="finished", num_done_before=9))
    history(HistoryConfig(run=str(tmp_path / "out")))
    title, line = capsys.readouterr().out.splitlines()
    assert title.split()[-1] == "took"
    assert line.endswith("0:00:00")


def test_history_can_be_read_by_programs(store, tmp_path, capsys):
    plan(store, tmp_path, "abc")
    night_log(store).end(progress(state="finished", num_done_before=9))
    history(HistoryConfig(run=str(tmp_path / "out"), format="json"))
    document = json.loads(capsys.readouterr().out)
    assert document["nights"][0]["num_left"] == 0
    assert document["generations"][0]["num_by_change"] == {"added": 3}


def two_kinds_of_changes(store, tmp_path):
    plan(store, tmp_path, "abc")
    night_log(store).end(progress(state="finished"))
    second = night_log(store)
    plan(store, tmp_path, "abd", model="large", revision=Revision())
    second.end(progress(elapsed_s=50.0, state="finished", num_done_before=9))


def test_a_narrow_terminal_shows_every_cell_below_the_title_of_its_column(store, tmp_path):
    two_kinds_of_changes(store, tmp_path)
    with Terminal("history", str(tmp_path / "out"), size=SIZES["small"]) as terminal:
        assert terminal.end() == 0, terminal.text
        start = next(n for n, line in enumerate(terminal.lines) if "changes" in line)
        title, *lines = terminal.lines[start:]
        cells = {"changes": ["1 added,", "2 asked,", "1 gone"], "done": ["9 of"], "cost": ["20.00"]}
        for name, texts in cells.items():
            below = [line[title.index(name) :] for line in lines]
            for text in texts:
                assert any(line.startswith(text) for line in below), terminal.text


def test_a_wide_terminal_shows_a_line_for_each_night(store, tmp_path):
    two_kinds_of_changes(store, tmp_path)
    with Terminal("history", str(tmp_path / "out"), size=SIZES["large"]) as terminal:
        assert terminal.end() == 0, terminal.text
        assert "1 added, 2 asked, 1 gone  9 of 9" in terminal.lines[2]
