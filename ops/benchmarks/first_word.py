"""Seconds from the command to the first words of a folder with a minute of speech, on this machine.

    python -m ops.benchmarks.first_word REPEATS [CHECKOUT ...]

Runs `nightscribe transcribe` of each checkout in turns, by default of this one. Prints when the
first shard was committed, when its transcript was visible, and when the command ended, as medians
and ranges in Markdown.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from nightscribe.audio.ffmpeg import find_ffmpeg

ROOT = Path(__file__).parent.parent.parent
LOOK_S = 0.05
MINUTE_S = 60
COLUMNS = ("first shard committed, s", "transcript visible, s", "command ended, s", "CPU, s")


def main() -> None:
    repeats, *checkouts = sys.argv[1:]
    places = [Path(place).resolve() for place in checkouts] or [ROOT]
    taken: dict[Path, list[tuple[float, ...]]] = {place: [] for place in places}
    with tempfile.TemporaryDirectory() as folder:
        archive = one_minute(Path(folder))
        for turn in range(int(repeats)):
            for place in places:
                seconds = timed_run(place, archive, Path(folder) / f"{turn}{place.name}")
                taken[place].append(seconds)
                sys.stderr.write(f"{place.name}: {' '.join(f'{s:.1f}' for s in seconds)}\n")
    sys.stdout.writelines(f"{line}\n" for line in table(taken))


def one_minute(folder: Path) -> Path:
    archive = folder / "archive"
    archive.mkdir()
    sample = ROOT / "samples/ten-minutes.opus"
    words = [find_ffmpeg(None), "-loglevel", "error", "-i", str(sample), "-t", str(MINUTE_S)]
    subprocess.run([*words, str(archive / "minute.flac")], check=True)
    return archive


def timed_run(checkout: Path, archive: Path, output: Path) -> tuple[float, ...]:
    """Seconds to the first part, to the first transcript and to the end, and CPU seconds."""
    words = [f"input={archive}", f"output={output}", "model=tiny", "quiet=true"]
    began_s, cpu_s = time.monotonic(), os.times()
    run = subprocess.Popen(
        [sys.executable, "-m", "nightscribe", "transcribe", *words],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first_s: dict[str, float] = {}
    while run.poll() is None:
        for name in ("_run/parts", "transcripts"):
            if name not in first_s and has_rows(output / name):
                first_s[name] = time.monotonic() - began_s
        time.sleep(LOOK_S)
    ended_s, now = time.monotonic() - began_s, os.times()
    assert run.returncode == 0, f"the run ended with {run.returncode}"
    used_s = sum(now[2:4]) - sum(cpu_s[2:4])
    return first_s.get("_run/parts", ended_s), first_s.get("transcripts", ended_s), ended_s, used_s


def has_rows(folder: Path) -> bool:
    """Every run writes one file without rows, which shows readers the columns."""
    return any(pq.read_metadata(file).num_rows for file in folder.rglob("*.parquet"))


def table(taken: dict[Path, list[tuple[float, ...]]]) -> Iterator[str]:
    yield f"| checkout | runs | {' | '.join(COLUMNS)} |"
    yield "|---|--:|" + "--:|" * len(COLUMNS)
    for place, runs in taken.items():
        cells = [
            f"{median(each):.1f} ({min(each):.1f} to {max(each):.1f})"
            for each in zip(*runs, strict=True)
        ]
        yield f"| {place.name} | {len(runs)} | {' | '.join(cells)} |"
    yield ""
    for place, runs in taken.items():
        visible = ", ".join(f"{run[1]:.1f}" for run in runs)
        yield f"Transcript visible in each run of {place.name}: {visible}."


if __name__ == "__main__":
    main()
