"""The progress bar on a pseudo-terminal: on a pipe there is none."""

import os
import pty
import subprocess
import sys

SCRIPT = """
from nightscribe.jobs.shell.display import Display
from nightscribe.cluster.progress import Progress

with Display("/somewhere", quiet=False) as display:
    display._bar.refresh()  # before it is known how many recordings there are
    display.show(Progress(run_id="r", num_recordings=9, estimated_s=0.0))
    display._bar.refresh()
"""


def test_the_progress_bar_works_before_and_after_the_plan_is_known():
    ours, theirs = pty.openpty()
    shown = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=theirs, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
    assert shown.wait(timeout=60) == 0, written.decode()
    assert b"0/9" in written
