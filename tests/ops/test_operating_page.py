"""What the operating page names exists: commands, keys, panels, reasons."""

import re

import pytest

from nightscribe.audio import decode_outcome
from nightscribe.jobs.cli import COMMANDS
from nightscribe.jobs.shell.config import configurations
from nightscribe.jobs.submit import JOB
from nightscribe.storage import errors
from nightscribe.storage.failure_retry import TRANSIENT_REASONS
from tests.documents import ROOT, quoted
from tests.ops.test_watch import panels

PAGE = (ROOT / "docs/operating.md").read_text()
QUOTED = sorted(set(quoted(ROOT / "docs/operating.md")))
SETTINGS = [text for text in QUOTED if re.fullmatch(r"([a-z]+[.=][\w.=]+ ?)+", text)]
ROWS = re.findall(
    r"^\| (fetch|decode|transcribe|speak) \| ([^|]+) \| ([^|]+) \|", PAGE, re.MULTILINE
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_can_be_given(setting):
    words = [word if "=" in word else f"{word}=1" for word in setting.split()]
    assert configurations(JOB, ["input=a", "output=b", "model=tiny", *words])


def test_the_commands_exist():
    named = {text.split()[1] for text in QUOTED if text.startswith("nightscribe ")}
    assert {"status", "doctor"} <= named <= COMMANDS.keys()


def test_the_panels_exist():
    named = re.findall(r'[Pp]anel "([^"]+)"', PAGE)
    assert len(named) >= 2
    assert set(named) <= {panel["title"] for panel in panels()}


def test_every_reason_has_its_row():
    of = {(stage, one) for stage, named, _ in ROWS for one in re.findall(r"`(\w+)`", named)}
    assert {one for stage, one in of if stage == "fetch"} == errors.SENTENCES.keys()
    judged = {*decode_outcome.REASONS.values(), *decode_outcome.SENTENCES}
    judged -= {"too_long"}  # cut off, not failed
    outside_of_ffmpeg = {"not_found", "denied"}  # it gets the file open
    assert judged - outside_of_ffmpeg <= {one for stage, one in of if stage == "decode"}


def test_the_rows_say_what_is_retried():
    again = {
        (stage, one)
        for stage, named, meaning in ROWS
        for one in re.findall(r"`(\w+)`", named)
        if "retried" in meaning
    }
    assert again == {(stage, one) for stage, some in TRANSIENT_REASONS.items() for one in some}
