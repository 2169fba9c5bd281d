"""A short storm on every change; the long one is `python -m tests.chaos.storm`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WORDS = [sys.executable, "-m", "tests.chaos.storm", "--recordings", "6", "--limit-s", "300"]


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_whoever_is_struck_and_whenever_the_tables_are_those_of_an_undisturbed_run():
    words = [*WORDS, "--moments", "3", "--seed", "3"]
    raged = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=880)
    assert raged.returncode == 0, raged.stdout + raged.stderr
    assert "| complaints | 0 |" in raged.stdout
    assert "the same" in raged.stdout
    assert "| moments struck | 0 |" not in raged.stdout
