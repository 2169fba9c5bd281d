"""A run with speakers that is killed and goes on has the speakers of one that nobody disturbed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import read_transcripts
from nightscribe.storage.voices import read_voices

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),
]

ROOT = Path(__file__).parent.parent.parent
ASKED = [
    *("model=tiny", "engine.device=cpu", "speakers=on", "quiet=true", "guards.max_retry_s=0"),
    *("shard.max_s=20", "shard.search_s=5", "intervals.commit_s=0.5", "lease.life_s=5"),
    "cluster.cpus_per_actor=1",
]


def begun(folder: Path, output: Path, cluster) -> subprocess.Popen:
    address = f"ray.address={cluster.get_runtime_context().gcs_address}"
    given = f"input={folder}", f"output={output}"
    return subprocess.Popen(
        [sys.executable, "-Pm", "nightscribe", "transcribe", *given, address, *ASKED],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(attempt: subprocess.Popen, happened) -> None:
    """SIGKILL, which no driver notices."""
    while attempt.poll() is None and not happened():
        time.sleep(0.05)
    assert attempt.poll() is None, "it ended before it could be killed"
    attempt.kill()
    attempt.wait()


def spoken(output: Path) -> list:
    """Everything that says who speaks, in an order of its own."""
    store = open_store(str(output), S3Config())
    transcripts = sorted(read_transcripts(store), key=lambda one: one.recording.recording_id)
    voices = sorted(read_voices(store), key=lambda voice: voice.key)
    words = [[(word.text, word.speaker) for word in one.words] for one in transcripts]
    about = [(one.speakers, one.speaker_spans) for one in transcripts]
    vectors = [(voice.key, voice.vector.round(4).tolist()) for voice in voices]
    return [words, about, vectors]


def test_a_killed_run_has_the_same_speakers(local_ray, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    for sample in ("ten-minutes.opus", "alice.opus", "human-press-six.flac"):
        shutil.copy(ROOT / "samples" / sample, archive)
    assert begun(archive, tmp_path / "whole", local_ray).wait() == 0
    whole = spoken(tmp_path / "whole")
    assert max(len(speakers) for speakers, _ in whole[1]) == 2

    broken = tmp_path / "broken"

    def parts() -> list[Path]:
        return list(broken.glob("_run/parts/**/*.parquet"))

    num_parts = 0
    for _ in range(2):
        attempt = begun(archive, broken, local_ray)
        kill_when(attempt, lambda before=num_parts: len(parts()) > before)
        num_parts = len(parts())
    assert begun(archive, broken, local_ray).wait() == 0
    assert spoken(broken) == whole
