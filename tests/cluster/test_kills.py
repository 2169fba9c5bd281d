"""Kill -9 in the middle of a real run, the same command again: the table of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.tables import read_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent.parent
GIVE_UP_S = 240
# The long one only to its third minute: enough to be killed in, and no more than that takes.
ENDS_S = {"alice.opus": "", "human-press-five.flac": "", "ten-minutes.opus": 150}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A manifest of shipped samples."""
    manifest = tmp_path_factory.mktemp("archive") / "manifest.csv"
    rows = [f"{ROOT}/samples/{name},{end_s}" for name, end_s in ENDS_S.items()]
    manifest.write_text("\n".join(["uri,end", *rows]))
    return manifest


def begin(archive: Path, output: str, in_process: str = "never") -> subprocess.Popen:
    """`nightscribe transcribe` in a process group of its own."""
    words = [f"input={archive}", f"output={output}", "model=tiny", "quiet=true", "lease.life_s=3"]
    words += ["shard.max_s=15", "shard.search_s=5", "intervals.commit_s=0.5"]
    words += ["cluster.num_audio_workers=1"]  # starting one takes longer than all their work
    words += [f"cluster.in_process={in_process}"]
    return subprocess.Popen(
        [sys.executable, "-m", "nightscribe", "transcribe", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen, give_up_s: float = GIVE_UP_S) -> int:
    try:
        return process.wait(give_up_s)
    finally:
        _end_group(process.pid)


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for_parts(output: str, process: subprocess.Popen) -> None:
    """Until something is committed and the run still goes on."""
    store, deadline = open_store(output, S3Config()), time.monotonic() + GIVE_UP_S
    while not list(store.entries("_run/parts/")):
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def table(output: str) -> list[dict]:
    """What readers see, without what tells how sure the model was to the last bit."""
    store = open_store(output, S3Config())
    rows = []
    for entry in store.entries("transcripts/"):
        rows += read_rows(store, entry.key).to_pylist()
    for row in rows:
        for word in row["words"]:
            word["confidence"] = round(word["confidence"], 2)
    columns = ("uri", "channel", "duration_s", "status", "text", "words")
    return sorted(({name: row[name] for name in columns} for row in rows), key=lambda r: r["uri"])


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Process ids and names of everything that a process has started."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    for child in {int(one) for file in children for one in file.read_text().split()}:
        yield child, Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        yield from descendants(child)


@pytest.fixture(scope="module")
def undisturbed(archive, tmp_path_factory) -> Iterator[Callable[[], list[dict]]]:
    """Makes the table of a run that has gone on beside the others since the first test began."""
    output = str(tmp_path_factory.mktemp("undisturbed") / "out")
    running = begin(archive, output)

    @cache
    def rows() -> list[dict]:
        assert finish(running) == 0
        return table(output)

    try:
        yield rows
    finally:
        _end_group(running.pid)
        running.wait()


@pytest.fixture(params=["s3", pytest.param("disk", marks=pytest.mark.slow)])
def output(request, tmp_path) -> str:
    if request.param == "disk":
        return str(tmp_path / "out")
    return request.getfixturevalue("s3_bucket") + "/some/prefix"


def test_a_killed_driver_loses_and_doubles_nothing(archive, output, undisturbed):
    killed = begin(archive, output)
    try:
        wait_for_parts(output, killed)
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        finish(killed)
    before = {entry.key for entry in open_store(output, S3Config()).entries("_run/parts/")}
    assert finish(begin(archive, output)) == 0
    assert table(output) == undisturbed()
    after = {entry.key for entry in open_store(output, S3Config()).entries("_run/parts/")}
    assert before <= after


def test_what_a_killed_process_has_left_is_done_by_workers(archive, tmp_path, undisturbed):
    """It may have been a shard that ended the process."""
    output = str(tmp_path / "out")
    killed = begin(archive, output, in_process="auto")
    try:
        wait_for_parts(output, killed)
        assert not [name for _, name in descendants(killed.pid) if "raylet" in name]
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        finish(killed)
    assert finish(begin(archive, output, in_process="auto")) == 0
    assert table(output) == undisturbed()
    *_, last = sorted((tmp_path / "out/_run/logs").glob("*.jsonl"))
    assert "for workers of Ray" in last.read_text()


# By default that of a worker that ends itself, in test_driver.
@pytest.mark.slow
def test_a_killed_actor_is_replaced(archive, tmp_path, undisturbed):
    output = str(tmp_path / "out")
    running = begin(archive, output)
    try:
        wait_for_parts(output, running)
        actors = [pid for pid, name in descendants(running.pid) if "TranscribingActor" in name]
        assert actors
        os.kill(actors[0], signal.SIGKILL)
    finally:
        code = finish(running)
    assert code == 0
    assert table(output) == undisturbed()


def test_the_undisturbed_run_is_complete(undisturbed):
    assert len(undisturbed()) == len(ENDS_S)
