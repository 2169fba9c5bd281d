"""Commands print file names literally and bear a closed pipe."""

import subprocess
import sys

import pytest
from rich.table import Table

from nightscribe.jobs.shell.terminal import clock, console
from nightscribe.storage.locations import open_store
from nightscribe.storage.result_tables import publish_transcripts
from nightscribe.storage.s3 import S3Config
from tests.reading.runs import transcript
from tests.survey.sounds import make_sound

ODD = "[red]talk [/b] :bell: [1]"


@pytest.fixture
def run(tmp_path):
    output = tmp_path / ODD / "output"
    heard = transcript(f"/a/{ODD}/a.wav", "well then", text="well now")
    publish_transcripts(open_store(str(output), S3Config()), [heard])
    return str(output)


@pytest.mark.parametrize("name", ["export", "evaluate", "report", "show"])
def test_brackets_in_names_are_no_markup(nightscribe, run, name):
    words = ["a.wav"] if name == "show" else []
    code, out, err = nightscribe(name, run, *words)
    assert (code, err) == (0, "")
    assert ODD in out


def test_brackets_in_names_of_an_archive_are_no_markup(nightscribe, tmp_path):
    (tmp_path / ODD.replace("/", "")).mkdir()
    make_sound(tmp_path / ODD.replace("/", "") / "a.wav", 1.0)
    (tmp_path / ODD.replace("/", "") / "b.mp3").write_bytes(b"no sound" * 99)
    code, out, _ = nightscribe("plan", str(tmp_path))
    assert code == 0
    assert out.count(ODD.replace("/", "")) == 2


def test_a_closed_pipe_is_no_error():
    ended = subprocess.run(
        f"unset PYTHONUNBUFFERED; {sys.executable} -m nightscribe show --help | true; "
        "exit ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("locale", "is_ascii"), [("C", True), ("C.UTF-8", False)])
def test_tables_are_drawn_in_ascii_in_the_c_locale_and_names_stay(
    monkeypatch, capsys, locale, is_ascii
):
    monkeypatch.setenv("LC_ALL", locale)
    table = Table("file", title="gr\u00fc\u00dfe")
    table.add_row("gr\u00fc\u00dfe.wav")
    console().print(table)
    drawn = capsys.readouterr().out
    assert "gr\u00fc\u00dfe.wav" in drawn
    assert drawn.replace("gr\u00fc\u00dfe", "").isascii() == is_ascii


@pytest.mark.parametrize(
    ("duration_s", "shown"), [(0, "0:00:00"), (59.6, "0:01:00"), (360_000, "100:00:00")]
)
def test_clocks(duration_s, shown):
    assert clock(duration_s) == shown
