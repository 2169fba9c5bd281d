"""A disk that fills up in the middle of a run: nothing half is visible, and with space it goes on.

The disk is a small one in memory, in a namespace of its own; no right of root is needed for it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WORDS = ["unshare", "--user", "--map-root-user", "--mount"]
HAS_NAMESPACES = subprocess.run([*WORDS, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not HAS_NAMESPACES, reason="this kernel gives nobody a namespace of his own")
def test_a_run_on_a_full_disk_goes_on_when_there_is_space(tmp_path):
    words = [*WORDS, sys.executable, "-m", "tests.chaos.full_disk", str(tmp_path)]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 3, "the disk was hardly ever full"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not HAS_NAMESPACES, reason="this kernel gives nobody a namespace of his own")
def test_the_command_names_a_full_disk_in_its_last_line(tmp_path):
    run = f"{sys.executable} -m nightscribe transcribe input=samples model=tiny quiet=true"
    run += " cluster.in_process=never"
    disk = f"mount -t tmpfs -o size=44k tmpfs {tmp_path} && {run} output={tmp_path}/out"
    ended = subprocess.run([*WORDS, "sh", "-c", disk], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert "there is no space left" in last
    assert last.endswith("; run the same command to resume")
