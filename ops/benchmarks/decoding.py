"""CPU time of decoding, cutting and finding speech: what an audio worker does for a recording.

    python -m ops.benchmarks.decoding

Noise in several formats, as one long recording and as clips of ten seconds, through the reader that
audio workers use. CPU time of this process and of ffmpeg, so that other load hardly counts.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from nightscribe.audio.ffmpeg import find_ffmpeg
from nightscribe.audio.segmentation import ShardConfig
from nightscribe.benchmarks.report import Table, conditions
from nightscribe.guards.config import GuardsConfig
from nightscribe.planning import PlanningConfig, plan
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import S3Config
from nightscribe.storage.sources import recordings

FORMATS = {
    "mp3 128 kbit/s, 44.1 kHz stereo": ("mp3", ["-ar", "44100", "-ac", "2", "-b:a", "128k"]),
    "flac, 44.1 kHz stereo": ("flac", ["-ar", "44100", "-ac", "2"]),
    "flac, 16 kHz mono": ("flac", ["-ar", "16000", "-ac", "1"]),
    "opus 32 kbit/s, mono": ("opus", ["-ac", "1", "-b:a", "32k"]),
    "wav, 16 kHz mono": ("wav", ["-ar", "16000", "-ac", "1"]),
}
LONG_S, CLIP_S, NUM_CLIPS = 600, 10, 20


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, options) in FORMATS.items():
            long_s, clip_s = (
                _cpu_s_per_file(Path(folder), suffix, options, length_s, count)
                for length_s, count in ((LONG_S, 1), (CLIP_S, NUM_CLIPS))
            )
            rows.append((name, LONG_S / long_s, CLIP_S / clip_s, 1e3 * clip_s))
    table = Table(
        title="Decoding, cutting and finding speech on one core",
        columns=("format", "long, x real time", "clips of 10 s, x real time", "ms a clip"),
        rows=rows,
        notes=(f"Long: {LONG_S} s. CPU time of the worker and of ffmpeg.",),
    )
    lines = conditions(torch.device("cpu"))[:2]
    sys.stdout.write("\n".join((*(f"- {line}" for line in lines), "", table.markdown())))


def _cpu_s_per_file(
    folder: Path, suffix: str, options: list[str], length_s: float, count: int
) -> float:
    place = folder / f"{suffix}-{len(options)}-{length_s:g}-{abs(hash(tuple(options)))}"
    place.mkdir()
    for index in range(count):
        _write(place / f"{index}.{suffix}", options, length_s, index)
    reader = AudioReader(
        source=SourceConfig(),
        shard=ShardConfig(),
        guards=GuardsConfig(),
        sample_rate_hz=24_000,
        s3=S3Config(),
    )
    found = recordings(str(place), S3Config())
    planned = [one.recording for one in plan(found, ContentHasher(), PlanningConfig())]
    began_s = _cpu_s()
    for recording in planned:
        for _ in reader(recording):
            pass
    return (_cpu_s() - began_s) / count


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _write(path: Path, options: list[str], length_s: float, seed: int) -> None:
    """Bursts of noise between pauses, as speech has them."""
    command = [find_ffmpeg(), "-v", "error", "-f", "s16le", "-ar", "24000", "-ac", "1", "-i", "-"]
    sound_N = np.concatenate(list(_bursts(length_s, seed)))[: int(length_s * 24_000)]
    subprocess.run([*command, *options, str(path)], input=sound_N.tobytes(), check=True)


def _bursts(length_s: float, seed: int) -> Iterator[np.ndarray]:
    draws = np.random.default_rng(seed)
    for _ in range(int(length_s) + 1):
        yield (draws.normal(0, 3000, 18_000)).astype(np.int16)
        yield np.zeros(6_000, np.int16)


if __name__ == "__main__":
    main()
