"""Planted faults through a whole run: files, decoder, engine, guards, commits, tables."""

import json
import threading
from dataclasses import replace
from functools import partial

import ffmpeg
import imageio_ffmpeg
import pytest

from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.resources import Pool
from nightscribe.jobs.shell.config import configurations
from nightscribe.jobs.transcribe import JOB, run_spec
from nightscribe.model.checkpoints.open import open_model
from nightscribe.planning import PlanningConfig, plan
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import read_transcripts
from nightscribe.storage.run import write_plan
from nightscribe.storage.sources import recordings
from tests.cluster.faults import FAULTS, SILENCE_FROM_S, TINY, faulty_transcriber

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
FROM_S = 12.0  # of the ten minutes: speech without a long pause


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    rows = []
    for number, fault in enumerate(FAULTS):
        spoken = ffmpeg.input("samples/ten-minutes.opus", ss=FROM_S + number, t=SILENCE_FROM_S)
        silence = {"pad_dur": 12}
        command = spoken.audio.filter("apad", **silence).output(str(folder / f"{fault}.flac"))
        command.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True)
        rows.append({"uri": f"{fault}.flac", "language": "en"})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def transcripts(local_ray, manifest):
    output = manifest.parent / "out"
    words = [f"input={manifest}", f"output={output}", "model=tiny", f"model.checkpoint={TINY}"]
    words += ["intervals.commit_s=0.2"]
    (config,) = configurations(JOB, words)
    planned = list(plan(recordings(config.input, S3Config()), ContentHasher(), PlanningConfig()))
    write_plan(planned, manifest.parent / "plan.parquet")
    faults = {one.recording.recording_id: _name(one.recording) for one in planned}
    asked = run_spec(config, open_model(config.model), {}, manifest.parent / "plan.parquet")
    failing = partial(faulty_transcriber, faults, config.guards)
    asked = replace(asked, stages=replace(asked.stages, make_transcriber=failing))
    pool = Pool(num_actors=1, gpus_per_actor=0.0, num_audio_workers=1, num_slots=4)
    transcribe(asked, pool, threading.Event(), lambda progress: None)
    store = open_store(str(output), S3Config())
    return {_name(one.recording): one for one in read_transcripts(store)}


def _name(recording):
    return recording.uri.rpartition("/")[2].removesuffix(".flac")


def guards_of(transcript):
    return {finding.guard for finding in transcript.inspection.findings}


@pytest.mark.parametrize("fault", ["loop", "hallucination", "language"])
def test_a_planted_fault_is_found_where_it_was_planted_and_nowhere_else(transcripts, fault):
    assert {name for name, one in transcripts.items() if fault in guards_of(one)} == {fault}


def test_a_planted_stall_is_retried_and_cured(transcripts):
    stalled = transcripts["stall"]
    assert (stalled.status, stalled.num_redecoded) == ("redecoded", 1)
    assert stalled.inspection.num_stalls == 0
    inside = [word for word in stalled.words if 6.0 <= word.start_s < 24.0]
    assert len(inside) > 15
    assert [one.num_redecoded for name, one in transcripts.items() if name != "stall"] == [0] * 4


def test_the_sound_one_is_ok_and_every_stage_was_timed(transcripts, manifest):
    assert transcripts["none"].status == "ok"
    assert guards_of(transcripts["none"]) == set()
    status = json.loads((manifest.parent / "out/_run/status.json").read_text())
    spent = {wait["stage"]: wait for wait in status["waits"]}
    assert set(spent) == {"fetch and decode", "load the model", "transcribe", "commit", "publish"}
    assert all(wait["busy_s"] > 0 for wait in spent.values())
    assert 0 < status["mean_occupancy"] <= 1
