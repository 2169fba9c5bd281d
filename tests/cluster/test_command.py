"""`nightscribe transcribe` whole, with a real model: word for word what a Transcriber says."""

import json
import os
import shutil
import subprocess
import sys
import wave
from math import inf
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.jobs.shell.attempts import TOO_MANY_FAILURES
from nightscribe.jobs.shell.config import configurations
from nightscribe.jobs.transcribe import JOB
from nightscribe.records import ShardTranscript
from nightscribe.runs.audio_reader import AudioReader
from nightscribe.runs.shards import CutShard
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import FOLDER, outcomes_of
from nightscribe.storage.sources import recordings
from nightscribe.storage.tables import files
from nightscribe.transcription.transcriber import Clip, Transcriber

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 24_000
NUM_RECORDINGS = 6
# Small shards, so that a short recording has several; nothing heard twice, so that the words are
# those of the tokens beside them.
ASKED = [
    *("model=tiny", "engine.dtype=float32", "engine.device=cpu", "tokens=true", "quiet=true"),
    *(
        "shard.max_s=12",
        "shard.search_s=4",
        "guards.max_retry_s=0",
        "lease.life_s=5",
        "intervals.commit_s=0.5",
        "cluster.num_audio_workers=2",
        "cluster.cpus_per_actor=1",
    ),
]


def transcribe(folder: Path, output: Path, cluster, *words: str) -> subprocess.CompletedProcess:
    """The command as a user types it, on the Ray of these tests, beside scripts of the user.

    Their names are those of modules that Ray's workers import.
    """
    scripts = output.with_name("scripts")
    scripts.mkdir(exist_ok=True)
    for name in ("click.py", "types.py"):
        (scripts / name).write_text('raise ImportError("a script of the user")\n')
    address = f"ray.address={cluster.get_runtime_context().gcs_address}"
    given = f"input={folder}", f"output={output}"
    return subprocess.run(
        [sys.executable, "-Pm", "nightscribe", "transcribe", *given, address, *ASKED, *words],
        cwd=scripts,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def wav(path: Path, samples_N: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples_N.tobytes())


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Shipped samples, two pieces of the long one, and something that is no recording."""
    folder = tmp_path_factory.mktemp("archive")
    for sample in [*(ROOT / "samples").glob("human-press-*.flac"), ROOT / "samples/alice.opus"]:
        shutil.copy(sample, folder)
    with AudioDecoder(ROOT / "samples/ten-minutes.opus", DecodeConfig(), RATE_HZ) as sound:
        whole_N = np.concatenate([block_NC[:, 0] for block_NC in sound])
    for start_s, end_s in ((0, 17), (95, 126.3)):
        piece_N = whole_N[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)]
        wav(folder / f"from-{start_s}.wav", piece_N)
    (folder / "inner.mp3").write_text("<html>Sign in</html>" * 99)
    return folder


@pytest.fixture(scope="module")
def said_directly(archive) -> dict[str, ShardTranscript]:
    """Every shard by its name, heard by one Transcriber in this process."""
    (config,) = configurations(JOB, [f"input={archive}", "output=none", *ASKED])
    reader = AudioReader(
        sample_rate_hz=RATE_HZ,
        source=config.source,
        shard=config.shard,
        guards=config.guards,
        s3=S3Config(),
    )
    found = [cut for one in recordings(str(archive), S3Config()) for cut in reader(one)]
    cuts = {cut.shard.shard_id: cut for cut in found if isinstance(cut, CutShard)}
    transcriber = Transcriber.load(config.model, config.engine, config.guards)
    clips = [Clip(name, cut.samples_N, speech=cut.speech) for name, cut in cuts.items()]
    return {
        heard.clip_id: ShardTranscript(
            shard=cuts[heard.clip_id].shard,
            words=heard.words,
            tokens=tuple(heard.tokens_T.tolist()),
            speech=cuts[heard.clip_id].speech,
            model="tiny",
            model_revision="",
        )
        for heard in transcriber.transcribe(clips)
    }


def spoken(words) -> list[tuple]:
    """Words and their times; the last bits of a confidence depend on who is heard beside."""
    return [(word.text, word.start_s, word.end_s, round(word.confidence, 3)) for word in words]


def rows(output: Path, table: str) -> list[dict]:
    return [
        row
        for file in (output / table).glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]


def joined(shards: list[ShardTranscript]) -> str:
    """Of each shard the words whose middle it owns, by other code than the one on trial."""
    words = []
    for said in sorted(shards, key=lambda said: said.shard.index):
        shard = said.shard
        first = shard.owned_start_sample if shard.index else -inf
        end = inf if shard.is_last else shard.owned_end_sample
        for word in said.words:
            middle = shard.start_sample + RATE_HZ * (word.start_s + word.end_s) / 2
            words += [word.text] * (first <= middle < end)
    return " ".join(words)


def hold_against(output: Path, said_directly: dict[str, ShardTranscript]) -> None:
    store = open_store(str(output), S3Config())
    committed = [one for entry in files(store, FOLDER) for one in outcomes_of(store, entry.key)]
    heard = {one.shard.shard_id: one for one in committed if isinstance(one, ShardTranscript)}
    assert heard.keys() == said_directly.keys()
    for name, said in said_directly.items():
        assert heard[name].tokens == said.tokens
        assert spoken(heard[name].words) == spoken(said.words)
    shards_of: dict[str, list[ShardTranscript]] = {}
    for said in said_directly.values():
        shards_of.setdefault(said.shard.recording.uri, []).append(said)
    texts = {row["uri"]: row["text"] for row in rows(output, "transcripts")}
    assert texts == {uri: joined(shards) for uri, shards in shards_of.items()}
    assert sum(map(len, texts.values())) > 200


@pytest.fixture(scope="module")
def transcribed(archive, local_ray, tmp_path_factory):
    """The output of one actor, how the command ended, and its last heartbeat."""
    output = tmp_path_factory.mktemp("run") / "out"
    done = transcribe(archive, output, local_ray, "cluster.num_actors=1")
    return output, done, json.loads((output / "_run/status.json").read_text())


def test_one_actor_gives_word_for_word_what_the_transcriber_gives(transcribed, said_directly):
    output, done, _ = transcribed
    assert done.returncode == 0, done.stderr
    hold_against(output, said_directly)


@pytest.mark.parametrize("num_actors", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_actors_give_the_same(archive, local_ray, tmp_path, said_directly, num_actors):
    wanted = f"cluster.num_actors={num_actors}"
    done = transcribe(archive, tmp_path / "out", local_ray, wanted)
    assert done.returncode == 0, done.stderr
    hold_against(tmp_path / "out", said_directly)


def test_one_bad_file_is_one_row_and_the_users_limit_decides(transcribed, archive, local_ray):
    output, done, _ = transcribed
    (failure,) = rows(output, "failures")
    assert failure["uri"].endswith("inner.mp3")
    assert (failure["stage"], failure["reason"]) == ("decode", "not_audio")
    assert len(rows(output, "transcripts")) == NUM_RECORDINGS - 1
    assert f"nightscribe export {output} formats=[srt]" in done.stderr.replace("\n", " ")
    assert "failures.retry=all" in done.stderr
    parts = {path: path.stat().st_mtime_ns for path in (output / "_run/parts").rglob("*.parquet")}
    again = transcribe(archive, output, local_ray, "failures.max=0")
    assert again.returncode == TOO_MANY_FAILURES, again.stderr
    assert parts == {
        path: path.stat().st_mtime_ns for path in (output / "_run/parts").rglob("*.parquet")
    }


def test_the_heartbeat_of_a_real_run_is_complete(transcribed):
    output, _, status = transcribed
    assert (status["state"], status["num_failures"]) == ("finished", 1)
    assert status["num_done"] == NUM_RECORDINGS
    heard_s = sum(row["duration_s"] for row in rows(output, "transcripts"))
    assert status["transcribed_s"] == pytest.approx(heard_s, abs=0.01)
    assert 0 < status["mean_occupancy"] <= 1


@pytest.fixture(scope="module")
def mixed(archive, tmp_path_factory) -> Path:
    """Two channels, a copy of them, a recording of several shards, and no recording."""
    folder = tmp_path_factory.mktemp("mixed")
    with wave.open(str(archive / "from-0.wav")) as file:
        samples_N = np.frombuffer(file.readframes(9 * RATE_HZ), np.int16)
    with wave.open(str(folder / "both.wav"), "wb") as file:
        file.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(np.stack([samples_N, samples_N[::-1]], axis=1).tobytes())
    shutil.copy(folder / "both.wav", folder / "copy.wav")
    shutil.copy(archive / "from-95.wav", folder / "long.wav")
    shutil.copy(archive / "inner.mp3", folder)
    return folder


def tables(output: Path) -> dict[str, list[dict]]:
    """Without when a row was made, and the last bits of how sure the model was."""
    found = {name: rows(output, name) for name in ("transcripts", "failures")}
    for row in [*found["transcripts"], *found["failures"]]:
        for name in [name for name in row if name.endswith("_at")]:
            del row[name]
        row["confidence"] = round(row.get("confidence") or 0.0, 3)
        for word in row.get("words") or []:
            word["confidence"] = round(word["confidence"], 3)
    return {
        name: sorted(some, key=lambda row: (row["uri"], row["channel"] or 0))
        for name, some in found.items()
    }


def test_one_process_without_ray_gives_the_same_tables(mixed, local_ray, tmp_path):
    words = ["source.channels=split"]
    (tmp_path / "ray").mkdir()
    assert transcribe(mixed, tmp_path / "ray/out", local_ray, *words).returncode == 0
    # A module that cannot be imported, in place of Ray.
    (tmp_path / "none/ray").mkdir(parents=True)
    (tmp_path / "none/ray/__init__.py").write_text('raise ImportError("nobody needs it")\n')
    asked = [one for one in ASKED if not one.startswith("cluster.cpus_per_actor")]
    given = f"input={mixed}", f"output={tmp_path / 'one/out'}"
    path = os.pathsep.join([str(tmp_path / "none"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "nightscribe", "transcribe", *given, *asked, *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one, many = tables(tmp_path / "one/out"), tables(tmp_path / "ray/out")
    assert len(one["transcripts"]) == 5
    assert one == many
