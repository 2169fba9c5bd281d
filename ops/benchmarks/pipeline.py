"""The whole pipeline on Ray: throughput beside the bare engine, and memory.

    python -m ops.benchmarks.pipeline throughput [MINUTES [REPEATS]]
    python -m ops.benchmarks.pipeline memory [HOURS [SLOTS]]

throughput: models/tiny on one thread. The bare engine, the pipeline and batches that wait for
their longest shard take turns over the same shards.
memory: one long recording through real decoding and cutting, with a fake model of constant step
time. Packets have 60 shards or so with 256 slots.
"""

import csv
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.segmentation import ShardConfig
from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.ray_session import connected
from nightscribe.cluster.resources import Pool
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.planning import PlanningConfig, plan
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.runs.config import ClusterConfig, IntervalsConfig, RayConfig
from nightscribe.runs.progress import Progress
from nightscribe.runs.shards import CutShard, Stages
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import S3Config
from nightscribe.storage.run import write_plan
from nightscribe.storage.sources import recordings
from nightscribe.transcription.transcriber import Clip, Transcriber
from ops.benchmarks.resident import Resident
from ops.benchmarks.stand_in import Diary, paced_transcriber

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "samples/ten-minutes.opus"
RATE_HZ = 24_000
NUM_SLOTS = 8
MODEL = ModelConfig(name="tiny", checkpoint=str(ROOT / "models/tiny"))
ENGINE = EngineConfig(device="cpu", dtype="float32", num_slots=NUM_SLOTS)
# No overlap, in the pipeline as in the bare engine.
ONCE = GuardsConfig(max_retry_s=0.0)


def main() -> None:
    what, *numbers = sys.argv[1:]
    run = {"throughput": throughput, "memory": memory}[what]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with connected(RayConfig(), ClusterConfig()):
            lines = run(Path(folder), *map(float, numbers))
        sys.stdout.write("\n".join(lines) + "\n")


def throughput(folder: Path, minutes: float = 20, repeats: float = 3) -> list[str]:
    manifest = pieces(folder, minutes * 60)
    clips = list(clips_of(manifest))
    heard_s = sum(len(clip.samples_N) for clip in clips) / RATE_HZ
    mixed = [clips[n] for n in np.random.default_rng(0).permutation(len(clips))]
    transcriber = Transcriber.load(MODEL, ENGINE)
    ways: dict[str, Callable[[int], Took]] = {
        "bare engine": lambda _: bare(transcriber, [clips]),
        "whole pipeline": lambda turn: through_ray(folder / f"out{turn}", manifest),
        "batches that wait": lambda _: bare(transcriber, batches(mixed)),
    }
    bare(transcriber, [clips[-1:]])
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for turn in range(int(repeats)):
        for name, way in ways.items():
            took[name].append(way(turn))
    best = typical(took["bare engine"])
    return [
        f"{len(clips)} shards, {heard_s:.0f} s of sound, {NUM_SLOTS} slots",
        "",
        "| way | took s | x real time | of the bare engine | processor s | of the bare engine |",
        "|---|---|---|---|---|---|",
        *(speed_row(name, all_, best, heard_s) for name, all_ in took.items()),
    ]


class Took(NamedTuple):
    wall_s: float
    cpu_s: float  # of the process with the engine


def typical(took: list[Took]) -> Took:
    return Took(median(one.wall_s for one in took), median(one.cpu_s for one in took))


def speed_row(name: str, took: list[Took], best: Took, heard_s: float) -> str:
    wall_s, cpu_s = typical(took)
    return (
        f"| {name} | {' '.join(f'{one.wall_s:.1f}' for one in took)} | {heard_s / wall_s:.1f} "
        f"| {best.wall_s / wall_s:.3f} | {' '.join(f'{one.cpu_s:.1f}' for one in took)} "
        f"| {best.cpu_s / cpu_s:.3f} |"
    )


def memory(folder: Path, hours: float = 10, slots: float = NUM_SLOTS) -> list[str]:
    """Private memory of every process while one recording is transcribed."""
    manifest = long_recording(folder, hours)
    resident = Resident()
    with resident.watched():
        diary, num_slots = Diary(folder / "diary.jsonl"), int(slots)
        open_transcriber = partial(paced_transcriber, diary, num_slots)
        run(
            folder / "out",
            manifest,
            ShardConfig(),
            open_transcriber,
            lambda progress: resident.note(progress.transcribed_s / (hours * 3600)),
            num_slots,
        )
    return [
        f"{hours:g} hours in one recording, shards of 60 s, {num_slots} slots",
        "",
        *resident.table(),
    ]


def run(
    output: Path,
    manifest: Path,
    shard: ShardConfig,
    make_transcriber: Callable,
    report_progress: Callable[[Progress], None],
    num_slots: int = NUM_SLOTS,
) -> None:
    plan_path = output.with_suffix(".parquet")
    found = recordings(str(manifest), S3Config())
    write_plan(plan(found, ContentHasher(), PlanningConfig()), plan_path)
    order = RunSpec(
        plan=plan_path,
        settings={"benchmark": True},
        stages=Stages(
            read=reader(shard),
            make_transcriber=make_transcriber,
            output=str(output),
            s3=S3Config(),
        ),
        examine=as_it_is,
        intervals=IntervalsConfig(publish_s=10),
    )
    pool = Pool(num_actors=1, gpus_per_actor=0.0, num_audio_workers=1, num_slots=num_slots)
    transcribe(order, pool, threading.Event(), report_progress)


def through_ray(output: Path, manifest: Path) -> Took:
    """From the first shard that reached the engine to the last one that was committed."""
    diary = Diary(output.with_suffix(".jsonl"))
    committed_at_s: list[tuple[int, float]] = [(0, 0.0)]

    def report_progress(progress: Progress) -> None:
        if progress.num_shards > committed_at_s[-1][0]:
            committed_at_s.append((progress.num_shards, time.time()))

    run(output, manifest, ShardConfig(), partial(tiny_transcriber, diary), report_progress)
    first, *_, last = diary.read()
    return Took(committed_at_s[-1][1] - first.at_s, last.cpu_s - first.cpu_s)


def batches(things: list) -> list[list]:
    return [things[n : n + NUM_SLOTS] for n in range(0, len(things), NUM_SLOTS)]


def bare(transcriber: Transcriber, groups: list[list[Clip]]) -> Took:
    begun_s, cpu_s = time.time(), time.process_time()
    for clips in groups:
        for _ in transcriber.transcribe(clips):
            pass
    return Took(time.time() - begun_s, time.process_time() - cpu_s)


def tiny_transcriber(diary: Diary):
    transcriber = Transcriber.load(MODEL, ENGINE)
    # The first round of a process prepares what later ones use: that is start-up.
    transcriber.submit(Clip("silence", np.zeros(RATE_HZ, np.int16))).result()
    return diary.kept_by(transcriber)


def reader(shard: ShardConfig) -> AudioReader:
    return AudioReader(
        sample_rate_hz=RATE_HZ, source=SourceConfig(), shard=shard, guards=ONCE, s3=S3Config()
    )


def as_it_is(transcript):
    return transcript


def clips_of(manifest: Path) -> Iterator[Clip]:
    """The shards that the pipeline transcribes, in the order of its plan."""
    read = reader(ShardConfig())
    for planned in plan(recordings(str(manifest), S3Config()), ContentHasher(), PlanningConfig()):
        for cut in read(planned.recording):
            assert isinstance(cut, CutShard)
            yield Clip(cut.shard.shard_id, cut.samples_N)


def pieces(folder: Path, total_s: float) -> Path:
    """Files of 2 s to a minute of the sample, and a list of them."""
    with AudioDecoder(SAMPLE, DecodeConfig(), RATE_HZ) as sound:
        samples_N = np.concatenate([block_NC[:, 0] for block_NC in sound])
    lengths_s, rows = np.random.default_rng(0).uniform(2, 60, 10_000), []
    for length_s in lengths_s[np.cumsum(lengths_s) <= total_s]:
        piece_N = np.resize(np.roll(samples_N, -len(rows) * 30 * RATE_HZ), int(length_s * RATE_HZ))
        rows.append({"uri": wav(folder / f"{len(rows)}.wav", piece_N).name, "duration": length_s})
    return written(folder, rows)


def long_recording(folder: Path, hours: float) -> Path:
    """Ten minutes of noise and silence again and again, as one WAV file."""
    block_N = noise(600)
    name = wav(folder / "long.wav", *[block_N] * round(hours * 6)).name
    return written(folder, [{"uri": name, "duration": hours * 3600}])


def noise(duration_s: float) -> np.ndarray:
    samples_N = np.random.default_rng(0).integers(-9000, 9000, round(duration_s * RATE_HZ))
    pauses_N = np.arange(len(samples_N)) % (7 * RATE_HZ) < RATE_HZ
    return np.where(pauses_N, 0, samples_N).astype(np.int16)


def wav(path: Path, *blocks_N: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        for block_N in blocks_N:
            file.writeframesraw(block_N.tobytes())
    return path


def written(folder: Path, rows: list[dict]) -> Path:
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "list.csv"


if __name__ == "__main__":
    main()
