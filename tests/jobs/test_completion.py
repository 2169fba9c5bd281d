"""Completion in bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightscribe.jobs.cli import COMMANDS
from nightscribe.jobs.completion import SCRIPT, candidates


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nightscribe fi", ["file"]),
        ("nightscribe file mod", ["model="]),
        ("nightscribe file model=ti", ["tiny"]),
        ("nightscribe file format=sr", ["srt"]),
        ("nightscribe file tokens=", ["true", "false"]),
        ("nightscribe file talk.wav engine.dt", ["engine.dtype="]),
        ("nightscribe nothing mod", []),
        ("nightscribe file nothing=", []),
    ],
)
def test_the_last_word_of_a_line_is_completed(line, expected):
    found = candidates(line)
    assert [word for word in found if word in expected] == expected
    assert all(word.startswith(line.split(" ")[-1].split("=")[-1]) for word in found)


def test_every_command_is_a_completion():
    assert candidates("nightscribe ") == list(COMMANDS)


def test_bash_completes_with_the_script(tmp_path):
    command = tmp_path / "nightscribe"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m nightscribe "$@"\n')
    command.chmod(0o755)
    ask = 'COMP_LINE="nightscribe file model=tin"; COMP_POINT=${#COMP_LINE}; _nightscribe'
    root = Path(__file__).parent.parent.parent
    answer = subprocess.run(
        ["bash", "-c", f'{SCRIPT}\n{ask}; echo "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert answer.stdout.strip() == "tiny"
