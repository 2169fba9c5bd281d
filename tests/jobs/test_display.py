"""The progress display on pseudo-terminals: on a pipe there is none.

A script plays a run; it waits for a line wherever the test wants to look.
"""

import re
import time

import pytest

from nightscribe.jobs.shell.display import details, headline
from nightscribe.runs.progress import Progress
from tests.terminals import PROMPT, SIZES, Terminal

SCRIPT = """
import logging, signal, sys
from nightscribe.runs.progress import Progress
from nightscribe.jobs.shell.display import Display
from nightscribe.jobs.shell.logs import LogConfig, logged

def step(name):
    while not sys.stdin.readline().startswith(name): pass

with logged(LogConfig()), Display("/somewhere", quiet=False) as display:
    display.begin("listing recordings")
    step("start")
    progress = Progress(run_id="r", num_recordings=1234, estimated_s=42_000.0, num_left=1234)
    display.show(progress)
    step("work")
    progress.transcribed_s, progress.num_new_done, progress.occupancy = 21_000.0, 617, 0.93
    progress._started_s = progress._updated_s - 100.0
    progress.num_new_failures = 2
    display.show(progress)
    step("warn")
    logging.getLogger("nightscribe").warning("something is odd")
    step("end")
    progress.state, progress.num_new_done = "finished", 1234
    display.show(progress)
    display.summarise(progress)
"""


def script(**options):
    return Terminal(program=("-c", SCRIPT), echo=False, **options)


def frame(terminal):
    """The lines that hold anything."""
    return [line for line in terminal.lines if line]


def wait_for_lines(terminal, number):
    """A frame may be read while half of it is written."""
    terminal.wait_until(lambda: len(frame(terminal)) == number)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_run_is_shown_from_its_first_phase_to_its_summary(size):
    with script(size=size) as terminal:
        terminal.wait_for("listing recordings  0:00:01")
        wait_for_lines(terminal, 1)
        assert not terminal.has_cursor
        terminal.type(b"start\n")
        terminal.wait_for("starting workers, loading the model")
        assert "0 of 1,234 recordings" in terminal.text
        terminal.type(b"work\n")
        terminal.wait_for("50%")
        wait_for_lines(terminal, 2)
        first, second = frame(terminal)
        assert "617 of 1,234 recordings" in first
        assert first.endswith("0:01:40 left")
        parts = ["5.8 of 11.7 h of audio", "210 x real time", "93% slot occupancy", "2 failed"]
        assert second.strip() == " \u00b7 ".join(parts)
        terminal.type(b"warn\n")
        terminal.wait_for("WARNING nightscribe: something is odd")
        terminal.wait_for("50%")
        terminal.type(b"end\n")
        assert terminal.end() == 0
        assert terminal.has_cursor
        assert "50%" not in terminal.text
        assert "WARNING nightscribe: something is odd" in terminal.lines
        assert "run r finished" in terminal.text


def test_a_narrow_and_then_wider_window_keeps_two_lines():
    with script(size=(40, 10)) as terminal:
        terminal.type(b"start\nwork\n")
        terminal.wait_for("50%")
        wait_for_lines(terminal, 2)
        terminal.resize(100, 10)
        terminal.wait_for("2 failed")
        wait_for_lines(terminal, 2)
        terminal.resize(30, 6)
        terminal.type(b"warn\nend\n")
        assert terminal.end() == 0


def test_ctrl_z_leaves_the_shell_its_line_and_its_cursor():
    with script() as terminal:
        terminal.type(b"start\nwork\n")
        terminal.wait_for("50%")
        terminal.type(b"\x1a")
        terminal.wait_for(PROMPT)
        assert terminal.has_cursor
        assert "50%" not in terminal.text
        terminal.type(b"\n")
        terminal.wait_for("50%")
        assert not terminal.has_cursor
        terminal.type(b"warn\nend\n")
        assert terminal.end() == 0
        assert "run r finished" in terminal.text


def test_a_dumb_terminal_gets_plain_lines():
    with script(env={"TERM": "dumb"}) as terminal:
        terminal.type(b"start\nwork\nwarn\nend\n")
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.written
        assert "listing recordings" in terminal.lines
        assert "run r finished" in terminal.text


def test_no_colour_means_none():
    with script(env={"NO_COLOR": "1"}) as terminal:
        terminal.type(b"start\nwork\n")
        terminal.wait_for("50%")
        terminal.type(b"warn\nend\n")
        assert terminal.end() == 0
        colours = re.findall(rb"\x1b\[([0-9;]*)m", terminal.written)
        codes = {code for each in colours for code in each.split(b";")}
        assert codes <= {b"", b"0", b"1", b"3"}  # bold and italic remain


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}])
def test_the_c_locale_gets_ascii(env):
    with script(env=env) as terminal:
        terminal.type(b"start\nwork\n")
        terminal.wait_for("50% | 617 of 1,234 recordings")
        terminal.type(b"warn\nend\n")
        assert terminal.end() == 0
        assert terminal.written.isascii()


def test_a_terminal_that_goes_away_ends_no_run(tmp_path):
    script = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{PLAYED_ALONE}"
    with Terminal(str(tmp_path / "done"), program=("-c", script)) as terminal:
        terminal.wait_for("listing recordings")
        terminal.close()
        deadline_s = time.monotonic() + 30
        while not (tmp_path / "done").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


PLAYED_ALONE = """
import sys, time
from pathlib import Path
from nightscribe.runs.progress import Progress
from nightscribe.jobs.shell.display import Display

with Display("/somewhere", quiet=False) as display:
    display.begin("listing recordings")
    time.sleep(2)
    progress = Progress(run_id="r", num_recordings=9, estimated_s=1.0)
    display.show(progress)
    time.sleep(0.5)
    display.summarise(progress)
Path(sys.argv[1]).touch()
"""


def running(transcribed_s, estimated_s, elapsed_s=10.0, num_done=3):
    progress = Progress(run_id="r", num_recordings=63, estimated_s=estimated_s)
    progress.transcribed_s, progress.num_new_done = transcribed_s, num_done
    progress._started_s = progress._updated_s - elapsed_s
    return progress


@pytest.mark.parametrize("transcribed_s", [0.0, 0.1, 50.0, 99.9, 99.9999, 100.0, 250.0])
def test_no_time_left_and_all_of_the_work_are_never_shown_while_work_is_left(transcribed_s):
    shown = " ".join(headline(running(transcribed_s, 100.0)))
    assert "0:00:00" not in shown
    assert "100%" not in shown


def test_the_end_of_a_run_is_all_of_the_work():
    progress = running(99.0, 100.0, num_done=63)
    progress.state = "finished"
    assert headline(progress) == ["100%", "63 of 63 recordings"]


def test_the_share_is_that_of_the_audio_and_not_of_the_recordings():
    assert headline(running(75.0, 100.0, num_done=1))[:2] == ["75%", "1 of 63 recordings"]


def test_more_audio_than_was_estimated_is_not_said_to_be_all_of_it():
    progress = running(120.0, 100.0, num_done=1)
    assert headline(progress) == ["1 of 63 recordings", "longer than estimated"]
    assert details(progress)[0] == "2.0 min of audio"
    progress.state = "finished"
    assert details(progress)[0] == "2.0 of 2.0 min of audio"


def test_what_did_not_happen_is_not_shown():
    assert details(running(60.0, 120.0)) == ["1.0 of 2.0 min of audio", "6 x real time"]
