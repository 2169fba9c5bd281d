"""A short storm on every change; the long one is `python -m tests.chaos.storm`."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightscribe.audio.ffmpeg import find_ffmpeg
from nightscribe.records import Recording
from nightscribe.storage.scratch import ScratchConfig, _space
from tests.chaos import storm
from tests.chaos.attempt import Attempt

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


def test_a_decoder_and_a_copy_that_are_left_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(storm, "LEFTOVERS_S", 0.0)
    scratch = ScratchConfig(folder=str(tmp_path / "scratch"))
    attempt = Attempt(input="s3://bucket/in", output=str(tmp_path / "out"), scratch=scratch.folder)
    assert storm.leftovers(attempt) == []
    held = Recording(uri="s3://bucket/in/a.wav", size_bytes=7, version="1")
    with _space(held, scratch) as folder:
        words = ["-f", "lavfi", "-re", "-i", "anullsrc", "-f", "null", "-metadata"]
        decoder = subprocess.Popen(
            [find_ffmpeg(), *words, f"title={folder}/recording.wav", "-"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not Path(f"/proc/{decoder.pid}/cmdline").read_bytes():
            time.sleep(0.01)  # it has not begun
        try:
            assert storm.leftovers(attempt) == [
                f"decoder {decoder.pid} outlives the run",
                f"{folder} is still held",
            ]
        finally:
            decoder.kill()
            decoder.wait()
    assert storm.leftovers(attempt) == []
