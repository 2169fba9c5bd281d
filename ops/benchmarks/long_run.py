"""Many short recordings through one real run, and what its processes hold while it lasts.

`python ops/benchmarks/long_run.py FOLDER NUM FIGURES.md [MINUTES]` finishes what was begun and
stops when the minutes are over; the same command goes on. Files, ffmpeg, Ray, parts and tables
are the real ones; a hashing model listens, so that nothing but the way through the system takes
time. Run it from the root of the project.
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
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 8000
MAX_S = 3.0
LOOK_S = 5.0
MIB = 2**20
# Processes that were there for this share of the run are told.
LONG_LIVED = 0.6
# The first quarter fills pools and caches; after it nothing may grow by more than this.
MAX_GROWTH = 0.10
MAX_GROWTH_BYTES = 64 * MIB


def main(folder: str, num: str, figures: str, minutes: str = "inf") -> int:
    place = Path(folder).absolute()
    make_recordings(place / "in", int(num))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(place / "tmp"),
        "RAY_AUTH_MODE": "disabled",
    }
    (place / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).absolute()), "--drive", str(place), minutes]
    began_s = time.monotonic()
    with (
        subprocess.Popen(command, env=environment, cwd=ROOT) as driver,
        (place / "looks.jsonl").open("w") as looks,
    ):
        while driver.poll() is None:
            looks.write(json.dumps(look(driver.pid, place)) + "\n")
            looks.flush()
            time.sleep(LOOK_S)
    took_s = time.monotonic() - began_s
    lines, wrong = judged(place, int(num), took_s, driver.returncode)
    Path(figures).write_text("\n".join(lines) + "\n")
    return 1 if wrong else 0


def make_recordings(folder: Path, num: int) -> None:
    """Noise of one to three seconds, in folders of a thousand; no two alike."""
    for index in range(num):
        path = folder / f"{index // 1000:03d}" / f"{index:06d}.wav"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(index)
        samples_N = draw.integers(-3000, 3000, int(draw.uniform(1.0, MAX_S) * RATE_HZ), np.int16)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            file.writeframes(samples_N.tobytes())


def drive(folder: str, minutes: str) -> None:
    """One attempt at the run, to its end or until the time is over."""
    from pipeline.audio.cut import ShardConfig
    from pipeline.cluster.audio_reader import AudioReader, SourceConfig
    from pipeline.cluster.config import ClusterConfig, RayConfig
    from pipeline.cluster.dataset import Stages
    from pipeline.cluster.order import Order
    from pipeline.cluster.progress import Progress
    from pipeline.cluster.resources import Pool
    from pipeline.cluster.run import transcribe
    from pipeline.cluster.session import connected
    from pipeline.guards.config import GuardsConfig
    from pipeline.planning import PlanningConfig, plan
    from pipeline.storage.contents import Contents
    from pipeline.storage.opening import S3Config
    from pipeline.storage.plans import write_plan
    from pipeline.storage.sources import recordings
    from tests.cluster.stages import listener

    place, s3, cluster = Path(folder), S3Config(), ClusterConfig(object_store_gib=0.5)
    reader = AudioReader(
        sample_rate_hz=24_000,
        source=SourceConfig(),
        shard=ShardConfig(),
        guards=GuardsConfig(),
        s3=s3,
    )
    found = recordings(str(place / "in"), s3)
    write_plan(plan(found, Contents().name, PlanningConfig()), place / "plan.parquet")
    order = Order(
        plan=place / "plan.parquet",
        settings={"model": "hashing"},
        stages=Stages(
            make_reader=partial(_itself, reader),
            make_listener=partial(listener, 16),
            output=str(place / "out"),
            s3=s3,
        ),
        examine=_itself,
        cluster=cluster,
    )
    pool = Pool(num_actors=1, gpus_per_actor=0.0, num_decoders=2, num_slots=16)
    stop, began_s = threading.Event(), time.monotonic()

    def watch_the_clock(progress: Progress) -> None:
        if time.monotonic() - began_s > 60 * float(minutes):
            stop.set()

    with connected(RayConfig(), cluster):
        transcribe(order, pool, stop, watch_the_clock)


def _itself(thing):
    return thing


def look(driver: int, place: Path) -> dict:
    """What every process of the run holds now, and the files that ought to go away again."""
    status = {}
    with suppress(OSError, ValueError):
        status = json.loads((place / "out/_run/status.json").read_text())
    leftovers = [*(place / "tmp/nightscribe").glob("taken-*"), *place.rglob("out/**/.aside-*")]
    return {
        "at_s": time.time(),
        "num_done": status.get("num_done", 0),
        "num_temporary": len(leftovers),
        "processes": {pid: held for pid in family(driver) if (held := _held(pid))},
    }


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


def _held(pid: int) -> tuple[str, int, int] | None:
    """Its role, private memory and open descriptors."""
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
        return words[0].split()[0].split("(")[0].removeprefix("ray::").partition(".")[0] or "idle"
    name = os.path.basename(next((word for word in words[1:] if word.endswith(".py")), words[0]))
    return name or "gone"


def judged(place: Path, num: int, took_s: float, exit_code: int) -> tuple[list[str], list[str]]:
    """The page of figures, and what is wrong."""
    looks = [json.loads(line) for line in (place / "looks.jsonl").read_text().splitlines()]
    rows, wrong = _rows(looks)
    if exit_code:
        wrong.append(f"the run ended with {exit_code}")
    if looks[-1]["num_temporary"]:
        wrong.append(f"{looks[-1]['num_temporary']} temporary files are left")
    most = max(look["num_temporary"] for look in looks)
    page = [
        "# Many short recordings in one run",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; `python ops/benchmarks/long_run.py FOLDER {num} "
        "FIGURES.md`; a hashing model listens, everything else is real. The machine was shared.",
        "",
        f"- {looks[-1]['num_done'] - looks[0]['num_done']:,} recordings of 1 to {MAX_S:g} seconds "
        f"in {took_s:.0f} s, {looks[-1]['num_done']:,} of {num:,} done, exit code {exit_code}",
        f"- temporary files: {most} at most, {looks[-1]['num_temporary']} at the end",
        f"- objections: {'; '.join(wrong) or 'none'}",
        "",
        "Private memory and descriptors of each process that lived long, as medians of the",
        "second and of the last quarter of the run:",
        "",
        "| process | MiB, second quarter | MiB, last quarter | descriptors, second | last |",
        "|---|---|---|---|---|",
        *rows,
    ]
    return page, wrong


def _rows(looks: list[dict]) -> tuple[list[str], list[str]]:
    second = looks[len(looks) // 4 : len(looks) // 2]
    last = looks[3 * len(looks) // 4 :]
    seen = Counter(pid for one in looks for pid in one["processes"])
    rows, wrong = [], []
    for pid in sorted(pid for pid, times in seen.items() if times > LONG_LIVED * len(looks)):
        before, after = _typical(second, pid), _typical(last, pid)
        if before is None or after is None:
            continue
        (memory, files), (memory_now, files_now) = before, after
        role = Counter(one["processes"][pid][0] for one in looks if pid in one["processes"])
        name = role.most_common(1)[0][0]
        rows.append(
            f"| {name} | {memory / MIB:.1f} | {memory_now / MIB:.1f} | {files:g} | {files_now:g} |"
        )
        if memory_now > memory * (1 + MAX_GROWTH) and memory_now > memory + MAX_GROWTH_BYTES:
            wrong.append(f"{name} grew from {memory / MIB:.0f} to {memory_now / MIB:.0f} MiB")
        if files_now > files + 8:
            wrong.append(f"{name} had {files:g} descriptors and then {files_now:g}")
    return rows, wrong


def _typical(looks: list[dict], pid: str) -> tuple[float, float] | None:
    held = [one["processes"][pid] for one in looks if pid in one["processes"]]
    return (median(h[1] for h in held), median(h[2] for h in held)) if held else None


if __name__ == "__main__":
    if sys.argv[1] == "--drive":
        drive(*sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
