"""CPU time of `nightscribe file` with and without speakers, in turns, on the same recording.

    python -m ops.speakers.cost RECORDING SECONDS_OF_IT [ROUNDS]

The start is the CPU time for the first second of the recording, and is taken off.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

from nightscribe.jobs.file import read_audio

RATE_HZ = 24_000
SIDES = ("off", "on")


def cpu_s(recording: Path, speakers: str) -> float:
    """Of all processes and threads of one command."""
    asked = ["model=tiny", "engine.device=cpu", f"speakers={speakers}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-Pm", "nightscribe", "file", str(recording), *asked],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def shortened(recording: Path, duration_s: float, folder: str) -> Path:
    path = Path(folder) / f"{duration_s:g}.wav"
    soundfile.write(path, read_audio(recording)[: round(duration_s * RATE_HZ)], RATE_HZ)
    return path


def main(recording: Path, duration_s: float, num_rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, start = shortened(recording, duration_s, folder), shortened(recording, 1.0, folder)
        costs: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(num_rounds):
            for side in SIDES:
                costs[side].append(cpu_s(whole, side) - cpu_s(start, side))
                sys.stdout.write(f"speakers={side}: {costs[side][-1]:.1f} s of CPU\n")
                sys.stdout.flush()
    off, on = (statistics.median(costs[side]) for side in SIDES)
    a_second = " and ".join(f"{1000 * one / (duration_s - 1):.1f}" for one in (off, on))
    sys.stdout.write(f"{a_second} ms of CPU for a second of sound: {on / off:.2f} times as much\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 3)
