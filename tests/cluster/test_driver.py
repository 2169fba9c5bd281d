"""The Ray path compared with the transcriber called directly, and its failures."""

import json
import shutil
import threading
import time
import wave
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.ffmpeg import find_ffmpeg
from nightscribe.audio.segmentation import ShardConfig
from nightscribe.cluster import execution
from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.resources import Pool
from nightscribe.guards.config import GuardsConfig
from nightscribe.runs import attempt as attempts
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.runs.config import ClusterConfig, IntervalsConfig
from nightscribe.runs.shards import CutShard
from nightscribe.storage.local import LocalStore
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import receipts
from nightscribe.storage.run import Night, index_plan
from nightscribe.storage.sources import recordings as recordings_in
from nightscribe.transcription.clips import Clip
from tests.cluster.stages import RATE_HZ, plan_file, read, recording, stages
from tests.fakes import hashing_transcriber

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

FFMPEG = find_ffmpeg()
LIMIT_S = 30.0  # long enough that on a busy machine everybody else is done by then


def order(recordings, folder: Path, output=None, **listening) -> RunSpec:
    folder.mkdir(exist_ok=True)
    return RunSpec(
        plan=plan_file(recordings, folder),
        settings={"model": "hashing"},
        stages=stages(output or folder / "out", **listening),
        examine=_unexamined,
        cluster=ClusterConfig(),
        intervals=IntervalsConfig(commit_s=0.2, publish_s=0.5, heartbeat_s=0.5, retire_s=0.0),
    )


def _unexamined(transcript):
    return transcript


def pool(num_actors=1) -> Pool:
    return Pool(num_actors=num_actors, gpus_per_actor=0.0, num_audio_workers=2, num_slots=4)


def run(what: RunSpec, num_actors=1, stop=None, tell=lambda progress: None):
    return transcribe(what, pool(num_actors), stop or threading.Event(), tell)


def table(output: Path, name="transcripts") -> list[dict]:
    files = sorted((output / name).glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: row["recording_id"])


def spoken_directly(recordings) -> dict[str, list[str]]:
    """Word for word what one transcriber says, without Ray, rows or stitching."""
    cuts = [cut for one in recordings for cut in read(one) if isinstance(cut, CutShard)]
    clips = [Clip(cut.shard.shard_id, cut.samples_N) for cut in cuts]
    heard = {one.clip_id: one.words for one in hashing_transcriber(4).transcribe(clips)}
    said = {}
    for cut in cuts:
        words = [word.text for word in heard[cut.shard.shard_id]]
        said.setdefault(cut.shard.recording.recording_id, []).extend(words)
    return said


SEVERAL = [recording(n, duration_s=0.5 + n % 7) for n in range(20)]


@pytest.fixture(scope="module")
def finished(local_ray, tmp_path_factory):
    """The output of a run of two actors that nothing disturbs, and its progress."""
    folder = tmp_path_factory.mktemp("finished")
    progress = run(order(SEVERAL, folder), num_actors=2)
    return folder / "out", progress


def test_ray_gives_word_for_word_what_the_transcriber_gives(finished):
    output, progress = finished
    rows = table(output)
    said = {row["recording_id"]: [word["text"] for word in row["words"]] for row in rows}
    assert said == spoken_directly(SEVERAL)
    assert progress.state == "finished"
    assert progress.num_done == 20


@pytest.mark.parametrize(
    ("num_executors", "num_actors"),
    [(2, 2), *(pytest.param(*few, marks=pytest.mark.slow) for few in ((2, 3), (3, 3)))],
)
def test_several_executors_give_the_tables_of_one(local_ray, tmp_path, num_executors, num_actors):
    recordings = [recording(n, duration_s=0.5 + n % 7) for n in range(30)]
    recordings += [recording(n, 1.0, "bad") for n in range(2)]
    asked = order(recordings, tmp_path)
    asked = replace(asked, cluster=ClusterConfig(drivers=num_executors))
    progress = run(asked, num_actors=num_actors)
    said = {r["recording_id"]: [w["text"] for w in r["words"]] for r in table(tmp_path / "out")}
    assert said == spoken_directly(recordings)
    assert len(table(tmp_path / "out", "failures")) == 2
    assert (progress.state, progress.num_done, progress.num_left) == ("finished", 32, 32)
    num_shards = sum(len(list(read(one))) for one in recordings)
    assert progress.num_shards == num_shards


def test_one_bad_file_among_a_hundred_costs_one_transcript(local_ray, tmp_path):
    recordings = [recording(n, 1.0) for n in range(99)] + [recording(99, 1.0, "bad")]
    progress = run(order(recordings, tmp_path))
    failures = table(tmp_path / "out", "failures")
    assert len(table(tmp_path / "out")) == 99
    assert [row["uri"] for row in failures] == ["s3://archive/bad-0099.wav"]
    assert (progress.num_failures, progress.num_done) == (1, 100)


@pytest.mark.slow
def test_a_recording_whose_decoding_hangs_delays_no_other_and_ends_at_its_limit(
    local_ray, tmp_path
):
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in ("0-hangs", *"abcdefgh"):
        with wave.open(str(archive / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            file.writeframes(bytes(2 * RATE_HZ))
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\ncase "$*" in *hangs.wav*) sleep 999;; esac\n{FFMPEG} "$@"\n')
    program.chmod(0o755)
    reader = AudioReader(
        sample_rate_hz=RATE_HZ,
        source=SourceConfig(decode=DecodeConfig(ffmpeg=str(program), stall_s=LIMIT_S)),
        shard=ShardConfig(),
        guards=GuardsConfig(),
        s3=S3Config(),
    )
    asked = order(list(recordings_in(str(archive), S3Config())), tmp_path)
    stages = replace(asked.stages, read=reader)
    came_at_s = {}
    run(
        replace(asked, stages=stages),
        tell=lambda progress: came_at_s.setdefault(progress.num_shards, time.monotonic()),
    )
    (failure,) = table(tmp_path / "out", "failures")
    assert failure["uri"].endswith("hangs.wav")
    assert (failure["stage"], failure["reason"]) == ("decode", "timeout")
    assert len(table(tmp_path / "out")) == 8
    assert came_at_s[9] - came_at_s[8] > LIMIT_S / 4


def test_a_shard_that_kills_its_worker_fails_alone(local_ray, tmp_path):
    recordings = [recording(n, 5.0) for n in range(11)] + [recording(11, 5.0, "poison")]
    run(order(recordings, tmp_path))
    rows, failures = table(tmp_path / "out"), table(tmp_path / "out", "failures")
    assert len(rows) == 12
    assert [row["reason"] for row in failures] == ["worker_killed"]
    assert [row["attempts"] for row in failures] == [3]
    poisoned = next(row for row in rows if "poison" in row["uri"])
    assert poisoned["status"] == "partial"
    assert poisoned["words"]
    said = {row["recording_id"]: [w["text"] for w in row["words"]] for row in rows}
    good = [one for one in recordings if "good" in one.uri]
    assert {name: said[name] for name in spoken_directly(good)} == spoken_directly(good)


def test_workers_that_die_leave_no_trace_in_the_table(local_ray, tmp_path):
    kinds = ["shaky" if n in (3, 9) else "good" for n in range(12)]
    recordings = [recording(n, 5.0, kind) for n, kind in enumerate(kinds)]
    crashes = tmp_path / "crashes"
    crashes.mkdir()
    progress = run(order(recordings, tmp_path, crash_folder=str(crashes)), num_actors=2)
    said = {r["recording_id"]: [w["text"] for w in r["words"]] for r in table(tmp_path / "out")}
    assert said == spoken_directly(recordings)
    assert len(list(crashes.iterdir())) == 2
    assert progress.num_retries >= 2


def test_a_drained_run_resumes_where_it_stopped(local_ray, tmp_path):
    recordings = [recording(n, 5.0) for n in range(40)]
    stop = threading.Event()

    def stop_soon(progress):
        if progress.num_shards >= 12:
            stop.set()

    first = run(order(recordings, tmp_path, pause_s=0.05), stop=stop, tell=stop_soon)
    committed = {(r.recording_id, r.shard_index) for r in receipts(_store(tmp_path / "out"))}
    second = run(order(recordings, tmp_path))
    said = {r["recording_id"]: [w["text"] for w in r["words"]] for r in table(tmp_path / "out")}
    assert first.state == "stopped"
    assert 12 <= first.num_shards < 120
    assert second.state == "finished"
    assert second.num_shards == 120 - len(committed)
    assert said == spoken_directly(recordings)


def test_the_heartbeat_shows_how_the_run_ended(finished):
    status = json.loads((finished[0] / "_run/status.json").read_text())
    assert status["state"] == "finished"
    assert (status["num_done"], status["num_recordings"]) == (20, 20)


def test_a_finished_run_that_is_run_again_keeps_its_status(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "out")
    path = tmp_path / "out/_run/status.json"
    before = json.loads(path.read_text())
    assert before["mean_occupancy"] > 0
    path.write_text(json.dumps(before | {"state": "running", "detail": "cut off"}))
    again = run(order(SEVERAL, tmp_path))
    now = json.loads(path.read_text())
    assert (again.num_left, again.state) == (0, "finished")
    assert now | {"updated_at": ""} == before | {"updated_at": ""}


def _store(output):
    return open_store(str(output), S3Config())


class CountingStore(LocalStore):
    """Counts how often rows of the stored plan are read."""

    num_plan_reads = 0

    def open(self, key):
        CountingStore.num_plan_reads += is_plan(key)
        return super().open(key)

    def read(self, key):
        CountingStore.num_plan_reads += is_plan(key)
        return super().read(key)

    def download(self, key, version, path):
        CountingStore.num_plan_reads += is_plan(key)
        return super().download(key, version, path)


def is_plan(key: str) -> bool:
    return key.startswith("_run/plan/") and key.endswith(".parquet")


def test_an_attempt_indexes_its_plan_once_and_reads_the_stored_one_once(
    local_ray, tmp_path, monkeypatch
):
    indexed = []
    monkeypatch.setattr(attempts, "open_store", lambda uri, s3: CountingStore(Path(uri)))
    monkeypatch.setattr(
        attempts, "index_plan", lambda path: indexed.append(path) or index_plan(path)
    )
    for attempt in (1, 2):
        progress = run(order([recording(n) for n in range(3)], tmp_path))
        assert progress.state == "finished"
        assert len(indexed) == attempt
        # The first one has just written it; its workers read what they need.
        assert CountingStore.num_plan_reads == attempt - 1


def test_nights_that_add_replace_and_drop_end_like_one_run(local_ray, tmp_path):
    """The tables are those of one run over what is there at last."""
    first = [recording(n) for n in range(4)]
    changed = replace(recording(0), version="2", expected_s=5.0)
    nights = [
        (first, "keep"),
        ([changed, *first[1:], recording(4)], "keep"),
        ([changed, *first[1:3], recording(4)], "drop"),
    ]
    for number, (found, missing) in enumerate(nights):
        what = order(found, tmp_path / f"plan{number}", output=tmp_path / "out")
        assert run(replace(what, night=Night(missing=missing))).state == "finished"
    run(order(found, tmp_path / "alone"))
    expected = [without_revision(row) for row in table(tmp_path / "alone" / "out")]
    assert [without_revision(row) for row in table(tmp_path / "out")] == expected
    revisions = {row["uri"][-8:-4]: row["revision"] for row in table(tmp_path / "out")}
    assert revisions == {"0000": 2, "0001": 1, "0002": 1, "0004": 2}


def without_revision(row: dict) -> dict:
    return row | {"revision": None}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            "ray::MapBatches(write_part)() (pid=7)\n  File x, line 1\n"
            "nightscribe.storage.errors.StorageError: /d/x: there is no space left\n\n"
            "To change retry attempts, configure `ray.data.DataContext`.",
            "/d/x: there is no space left",
        ),
        ("Traceback\nValueError: odd", "ValueError: odd"),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_of_a_failed_task_is_our_own_error(error, cause):
    assert execution.cause_of(RuntimeError(error)) == cause
