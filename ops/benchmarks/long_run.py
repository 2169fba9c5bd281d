"""Memory and file descriptors of a run of many short recordings and a very long one.

    python -m ops.benchmarks.long_run FOLDER NUM FIGURES.md [HOURS]

The S3 server, fetching, ffmpeg, Ray, the engine's slots, parts and tables are the real ones; a
fake model hashes the samples, so that only the rest of the system takes time.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
import wave
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from nightscribe.audio.segmentation import ShardConfig
from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.ray_session import connected
from nightscribe.cluster.resources import Pool
from nightscribe.guards.config import GuardsConfig
from nightscribe.planning import PlanningConfig, plan
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.runs.config import ClusterConfig, RayConfig
from nightscribe.runs.progress import Progress
from nightscribe.runs.shards import Stages
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import S3Config
from nightscribe.storage.run import write_plan
from nightscribe.storage.sources import recordings
from tests.cluster.stages import transcriber
from tests.s3_server import S3Server

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 8000
MIN_S, MAX_S = 0.5, 2.0
BLOCK_S = 600
NUM_SLOTS = 16
LOOK_S = 2.0
MIB = 2**20
TENTHS = 10
# Processes that lived for this share of the run are listed.
LONG_LIVED = 0.6
# The first third fills pools and caches; after it nothing may grow by more than this.
SETTLED_TENTH = 3
MAX_GROWTH, MAX_GROWTH_BYTES = 0.10, 64 * MIB
MAX_MORE_DESCRIPTORS = 8
# The last workers leave an empty file each, the scratch folder its lock.
MAX_TEMPORARY = 16
# Inside `ray::MapWorker(MapBatches(TranscribingActor))` and the like.
OURS = ("TranscribingActor", "read_packets", "publish_recordings", "AttemptRegistry")

# Of a process: its role, private memory, open descriptors.
Held = tuple[str, int, int]


def main(folder: str, num: str, figures: str, hours: str = "10") -> int:
    place = Path(folder).absolute()
    (place / "tmp").mkdir(parents=True)
    with S3Server() as server:
        bucket = server.new_bucket()
        fill(server.client(), bucket, place, int(num), float(hours))
        looks, took_s, code = watched(place, f"s3://{bucket}", server.environment)
    (place / "looks.json").write_text(json.dumps(looks))
    wrong = objections(looks, int(num) + (float(hours) > 0), code)
    Path(figures).write_text(page(looks, f"{num} FIGURES.md {hours}", took_s, wrong))
    return 1 if wrong else 0


def fill(client, bucket: str, place: Path, num: int, hours: float) -> None:
    """Noise, in folders of a thousand; no two recordings alike."""
    path = place / "one.wav"
    for index in range(num):
        draw = np.random.default_rng(index)
        write_noise(path, draw, draw.uniform(MIN_S, MAX_S))
        client.upload_file(str(path), bucket, f"in/{index // 1000:03d}/{index:06d}.wav")
    if hours:
        write_noise(path, np.random.default_rng(num), 3600 * hours)
        client.upload_file(str(path), bucket, "in/long.wav")


def write_noise(path: Path, draw: np.random.Generator, duration_s: float) -> None:
    left = int(duration_s * RATE_HZ)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        while left > 0:
            samples_N = draw.integers(-3000, 3000, min(left, BLOCK_S * RATE_HZ), np.int16)
            file.writeframes(samples_N.tobytes())
            left -= len(samples_N)


def watched(place: Path, bucket: str, credentials: dict[str, str]) -> tuple[list[dict], float, int]:
    """Samples of resources every few seconds, the duration of the run, and its exit code."""
    environment = {
        **os.environ,
        **credentials,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(place / "tmp"),
        "RAY_AUTH_MODE": "disabled",
    }
    command = [sys.executable, "-m", "ops.benchmarks.long_run", "--drive", str(place), bucket]
    looks, began_s = [], time.monotonic()
    with subprocess.Popen(command, env=environment, cwd=ROOT) as driver:
        while driver.poll() is None:
            looks.append(look(driver.pid, place))
            time.sleep(LOOK_S)
    looks[-1] |= {"num_temporary": num_temporary(place), "num_workers": num_workers(place)}
    looks[-1] |= told(place)
    return looks, time.monotonic() - began_s, driver.returncode


def drive(folder: str, bucket: str) -> None:
    """The run, in a process of its own."""
    place, s3, cluster = Path(folder), S3Config(), ClusterConfig(object_store_gib=0.5)
    reader = AudioReader(
        sample_rate_hz=24_000,
        source=SourceConfig(),
        shard=ShardConfig(),
        guards=GuardsConfig(),
        s3=s3,
    )
    found = recordings(f"{bucket}/in", s3)
    write_plan(plan(found, ContentHasher(), PlanningConfig()), place / "plan.parquet")
    order = RunSpec(
        plan=place / "plan.parquet",
        settings={"model": "hashing"},
        stages=Stages(
            read=reader,
            make_transcriber=partial(transcriber, NUM_SLOTS),
            output=f"{bucket}/out",
            s3=s3,
        ),
        examine=_itself,
        cluster=cluster,
    )
    pool = Pool(num_actors=1, gpus_per_actor=0.0, num_audio_workers=2, num_slots=NUM_SLOTS)
    with connected(RayConfig(), cluster):
        transcribe(order, pool, threading.Event(), partial(_tell, place / "progress.json"))


def _itself(thing):
    return thing


def _tell(path: Path, progress: Progress) -> None:
    names = ("num_done", "num_failures", "num_words", "transcribed_s", "occupancy")
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps({name: getattr(progress, name) for name in names}))
    aside.rename(path)


def look(driver: int, place: Path) -> dict:
    """Resources of every process of the run, and the temporary files that must be removed."""
    return told(place) | {
        "num_temporary": num_temporary(place),
        "processes": {pid: held for pid in family(driver) if (held := _held(pid))},
    }


def told(place: Path) -> dict:
    with suppress(FileNotFoundError):
        return json.loads((place / "progress.json").read_text())
    return {"num_done": 0}


def num_temporary(place: Path) -> int:
    """Copies of recordings and other files in the folder for temporary files."""
    found = (path for path in (place / "tmp").rglob("*") if "nightscribe-ray" not in path.parts)
    return sum(path.is_file() for path in found)


def num_workers(place: Path) -> int:
    """All processes that Ray has started."""
    return len(list((place / "tmp").glob("nightscribe-ray/session_2*/logs/python-core-worker-*")))


def family(driver: int) -> Iterator[int]:
    """The process and everything that descends from it."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            children[int(after_name[1])].append(int(stat.parent.name))
    waiting = [driver]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children[pid]


def _held(pid: int) -> Held | None:
    place = Path(f"/proc/{pid}")
    try:
        words = (place / "cmdline").read_text().split("\0")
        pages = (place / "statm").read_text().split()
        private = (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
        return _role(words), private, len(os.listdir(place / "fd"))
    except (OSError, IndexError):
        return None


def _role(words: list[str]) -> str:
    if "--drive" in words:
        return "driver"
    if words[0].startswith("ray::"):
        name = next((name for name in OURS if name in words[0]), words[0].removeprefix("ray::"))
        return name.split()[0].partition(".")[0].partition("(")[0]
    name = os.path.basename(next((word for word in words[1:] if word.endswith(".py")), words[0]))
    return name or "gone"


def objections(looks: list[dict], num: int, code: int) -> list[str]:
    wrong = [f"the run ended with {code}"] if code else []
    if looks[-1]["num_done"] != num:
        wrong.append(f"{looks[-1]['num_done']} of {num} recordings came to an end")
    if looks[-1].get("num_failures"):
        wrong.append(f"{looks[-1]['num_failures']} of them are failures")
    if looks[-1]["num_temporary"] > MAX_TEMPORARY:
        wrong.append(f"{looks[-1]['num_temporary']} temporary files are left")
    for pid, role in long_lived(looks):
        wrong += _growth(role, memory_of(looks, pid), descriptors_of(looks, pid))
    return wrong


def _growth(role: str, memory: Sequence[float], descriptors: Sequence[float]) -> Iterator[str]:
    before, after = memory[SETTLED_TENTH - 1], memory[-1]
    if after > before * (1 + MAX_GROWTH) and after > before + MAX_GROWTH_BYTES:
        yield f"{role} grew from {before / MIB:.0f} to {after / MIB:.0f} MiB"
    if descriptors[-1] > descriptors[SETTLED_TENTH - 1] + MAX_MORE_DESCRIPTORS:
        yield f"{role} had {descriptors[SETTLED_TENTH - 1]:g} descriptors, then {descriptors[-1]:g}"


def long_lived(looks: list[dict]) -> list[tuple[int, str]]:
    """The processes that lived most of the time, by role."""
    roles = defaultdict(Counter)
    for one in looks:
        for pid, (role, *_) in one["processes"].items():
            roles[pid][role] += 1
    return [
        (pid, seen.most_common(1)[0][0])
        for pid, seen in sorted(roles.items())
        if seen.total() > LONG_LIVED * len(looks)
    ]


def memory_of(looks: list[dict], pid: int) -> list[float]:
    return _by_tenth(looks, lambda one: [held[1] for held in _of(one, pid)])


def descriptors_of(looks: list[dict], pid: int) -> list[float]:
    return _by_tenth(looks, lambda one: [held[2] for held in _of(one, pid)])


def _of(one: dict, pid: int) -> list[Held]:
    return [one["processes"][pid]] if pid in one["processes"] else []


def _by_tenth(looks: list[dict], found: Callable[[dict], list[float]]) -> list[float]:
    """The median of what is found in each tenth of the run; nan where there was nothing."""
    edges = [len(looks) * tenth // TENTHS for tenth in range(TENTHS + 1)]
    tenths = [looks[start:end] for start, end in pairwise(edges)]
    values = [[value for one in tenth for value in found(one)] for tenth in tenths]
    return [median(some) if some else float("nan") for some in values]


def page(looks: list[dict], words: str, took_s: float, wrong: list[str]) -> str:
    last = looks[-1]
    shortest, longest = f"{MIN_S:g}", f"{MAX_S:g}"
    lines = [
        "# Many short recordings and a very long one in one run",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; `python -m ops.benchmarks.long_run FOLDER {words}`; "
        "input and output in a real S3 server; the model is a fake that hashes samples, "
        "everything else is real. "
        f"Short recordings have {shortest} to {longest} s of noise. The machine was shared.",
        "",
        f"- {last['num_done']:,} recordings, {last.get('transcribed_s', 0.0) / 3600:.1f} hours, "
        f"{last.get('num_words', 0):,} words in {took_s:.0f} s",
        f"- temporary files: {max(one['num_temporary'] for one in looks)} at most, "
        f"{last['num_temporary']} at the end",
        f"- worker processes of Ray, by their logs: {last['num_workers']}",
        f"- objections: {'; '.join(wrong) or 'none'}",
        "",
        *_table("done", [("recordings", _by_tenth(looks, lambda one: [one["num_done"]]))]),
        *_table("slots busy, %", [("engine", _occupancy(looks))]),
        *_table("temporary files", [("all", _by_tenth(looks, lambda one: [one["num_temporary"]]))]),
        *_table("private MiB", [(r, _mib(memory_of(looks, p))) for p, r in long_lived(looks)]),
        *_table("descriptors", [(r, descriptors_of(looks, p)) for p, r in long_lived(looks)]),
    ]
    return "\n".join(lines)


def _occupancy(looks: list[dict]) -> list[float]:
    return _by_tenth(looks, lambda one: [100 * share for share in [one.get("occupancy")] if share])


def _mib(sizes_bytes: list[float]) -> list[float]:
    return [size / MIB for size in sizes_bytes]


def _table(title: str, rows: list[tuple[str, list[float]]]) -> Iterator[str]:
    """One column for each tenth of the run's time."""
    yield f"| {title} | " + " | ".join(f"{tenth}/{TENTHS}" for tenth in range(1, TENTHS + 1)) + " |"
    yield "|---" + "|--:" * TENTHS + "|"
    for name, values in rows:
        yield f"| {name} | " + " | ".join(f"{value:.0f}" for value in values) + " |"
    yield ""


if __name__ == "__main__":
    if sys.argv[1] == "--drive":
        drive(*sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
