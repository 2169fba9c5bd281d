import json
import re

import pytest

from nightscribe.report.content import ProgressPoint, Report
from nightscribe.report.page import clock, render_report
from tests.report.samples import TEXT, full_report


@pytest.fixture(scope="module")
def html():
    return render_report(full_report())


def embedded(html, name):
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', html, re.S)[1])


def test_the_page_requests_nothing_outside_the_file(html):
    assert not re.search(r'(?:src|href|action)="(?!#|data:)', html)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\s*\(", html)
    assert "default-src 'none'" in html


def test_text_of_recordings_is_never_markup(html):
    assert "<b>him" not in html
    first, *_ = embedded(html, "data")
    assert [word[0] for word in first["words"]] == TEXT.split()


def test_the_page_holds_every_section(html):
    for heading in (
        "Model and settings",
        "Throughput",
        "Stage utilisation",
        "Duration by folder",
        "Recordings by status",
        "Guard findings",
        "Failures by reason",
        "Evaluation against references",
        "Recordings",
    ):
        assert f">{heading}</h2>" in html
    assert "4 of 1,204 recordings are shown" in html
    assert "decode: corrupt" in html
    assert ">220:24:00</td>" in html


def test_a_run_with_unknown_occupancy_has_no_empty_chart():
    progress = [ProgressPoint(10.0 * tick, 100.0 * tick, None) for tick in range(9)]
    html = render_report(
        Report(title="Short", created="now", headline=[], facts=[], progress=progress)
    )
    assert "Seconds of audio per second" in html
    assert "Slot occupancy, percent" not in html


def test_a_run_without_anything_still_has_a_page():
    html = render_report(Report(title="Nothing", created="now", headline=[], facts=[]))
    assert "<h1>" in html
    assert "Recordings</h2>" not in html


@pytest.mark.parametrize(
    ("time_s", "shown"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_clocks(time_s, shown):
    assert clock(time_s) == shown
