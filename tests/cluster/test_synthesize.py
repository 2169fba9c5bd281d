"""`nightscribe synthesize` whole, killed with -9 and resumed: every text once, the same samples."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nightscribe.jobs.file import read_audio
from nightscribe.speech.table import read_speech_table
from nightscribe.storage.local import LocalStore
from tests.cluster.test_kills import descendants
from tests.cluster.test_kills import finish as finish_within
from tests.speech.checkpoints import write_voiced_checkpoint

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.filterwarnings("ignore"),
]

ROOT = Path(__file__).parent.parent.parent
NUM_TEXTS = 60
GIVE_UP_S = 1000  # of a run, on a machine that does much else
WORDS = [
    "the",
    "night",
    "is",
    "long",
    "and",
    "the",
    "scribe",
    "writes",
    "on",
    "until",
    "the",
    "morning",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_voiced_checkpoint(tmp_path_factory.mktemp("speech"))


def rows_of(first, last):
    for number in range(first, last):
        text = " ".join(WORDS[: 3 + number % 9])
        voice = "nobody" if number % 20 == 7 else ("ann", "bob")[number % 2]
        yield {"id": f"text-{number}", "text": text, "voice": voice, "seed": number}


@pytest.fixture(scope="module")
def manifest(folder):
    path = folder / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows_of(0, NUM_TEXTS))))
    return path


def begin(folder: Path, manifest: Path, output: Path, *words: str) -> subprocess.Popen:
    given = [f"input={manifest}", f"output={output}", f"tts.checkpoint={folder}", "tts=custom"]
    given += [f"tts.voices={folder}", "voice=ann", "quiet=true", "lease.life_s=3"]
    given += ["speech.device=cpu", "speech.num_slots=4", "intervals.commit_s=0.5", "format=wav"]
    return subprocess.Popen(
        [sys.executable, "-m", "nightscribe", "synthesize", *given, *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> int:
    return finish_within(process, GIVE_UP_S)


def wait_for_parts(output: Path, process: subprocess.Popen) -> None:
    """The first part may hold only texts that failed."""
    while not (list(output.glob("_run/parts/*/*.parquet")) and list(output.glob("audio/*"))):
        assert process.poll() is None, "the run ended before it could be disturbed"
        time.sleep(0.05)


def spoken(output: Path) -> dict[str, tuple]:
    """What each text has become; fails if one is there twice."""
    rows = list(read_speech_table(LocalStore(output)))
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    return {
        name: (row["status"], row["reason"], row["duration_s"], row["words"], _sound(row))
        for name, row in found.items()
    }


def _sound(row):
    return b"" if row["status"] == "failed" else read_audio(row["audio"]).tobytes()


@pytest.fixture(scope="module")
def undisturbed(folder, manifest, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert finish(begin(folder, manifest, output)) == 0
    return spoken(output)


def same(found, expected):
    """The same rows; samples may differ in the last bit, by who is spoken beside."""
    assert found.keys() == expected.keys()
    for name, (*row, sound) in found.items():
        *expected_row, expected_sound = expected[name]
        assert row == expected_row
        pair = (np.frombuffer(one, np.int16).astype(int) for one in (sound, expected_sound))
        first_N, second_N = pair
        assert len(first_N) == len(second_N)
        assert np.abs(first_N - second_N).max(initial=0) <= 1


def test_the_undisturbed_run_has_every_text(undisturbed):
    assert len(undisturbed) == NUM_TEXTS
    failed = [name for name, row in undisturbed.items() if row[0] == "failed"]
    assert sorted(failed) == ["text-27", "text-47", "text-7"]


@pytest.mark.parametrize("victim", ["driver", "TranscribingActor"])
def test_kill_9_loses_and_doubles_nothing(folder, manifest, tmp_path, undisturbed, victim):
    output = tmp_path / "out"
    running = begin(folder, manifest, output)
    try:
        wait_for_parts(output, running)
        pids = [running.pid]
        if victim != "driver":
            pids = [pid for pid, name in descendants(running.pid) if victim in name]
        assert pids
        os.kill(pids[0], signal.SIGKILL)
    finally:
        code = finish(running)
    before = {path.name for path in output.glob("audio/*")}
    assert before
    if victim == "driver":
        assert code == -signal.SIGKILL
        code = finish(begin(folder, manifest, output))
    assert code == 0
    same(spoken(output), undisturbed)
    assert len(list(output.glob("audio/*"))) == NUM_TEXTS - 3


def test_a_later_night_speaks_what_is_new_or_changed(folder, manifest, tmp_path):
    output, small = tmp_path / "out", tmp_path / "texts.jsonl"
    rows = list(rows_of(0, 4))
    small.write_text("\n".join(map(json.dumps, rows)))
    assert finish(begin(folder, small, output)) == 0
    first = spoken(output)
    rows[1]["text"] = "one two three four"
    small.write_text("\n".join(map(json.dumps, [*rows, *rows_of(4, 6)])))
    kept = output.glob("audio/text-0.wav").__next__()
    written_at = kept.stat().st_mtime_ns
    assert finish(begin(folder, small, output)) == 0
    second = spoken(output)
    assert second.keys() == {f"text-{number}" for number in range(6)}
    assert [word["text"] for word in second["text-1"][3]] == ["one", "two", "three", "four"]
    assert second["text-0"] == first["text-0"]
    assert kept.stat().st_mtime_ns == written_at


def test_other_settings_are_refused(folder, manifest, tmp_path):
    output, small = tmp_path / "out", tmp_path / "texts.jsonl"
    small.write_text(json.dumps({"id": "a", "text": "one two"}))
    assert finish(begin(folder, small, output)) == 0
    assert finish(begin(folder, small, output, "speech.temperature=0.1")) == 2
