"""The batch path in several checkouts, in turns.

    python -m ops.benchmarks.batch_by_checkout TURNS CHECKOUT ...

Each checkout has a process of its own that transcribes the same clips with the small model, in
turns: one process works, the others wait. Prints CPU and wall seconds as medians, and their ratio
to the first checkout, in Markdown.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

WORKER = """
import sys, time
from nightscribe.jobs.file import load_transcriber, read_audio
from nightscribe.transcription.clips import Clip
sound = read_audio("samples/ten-minutes.opus")
size = 10 * 24_000
clips = [Clip(str(i), sound[i * size : (i + 1) * size]) for i in range(16)]
transcriber = load_transcriber("tiny", settings={"engine.num_slots": 8, "engine.device": "cpu"})
for line in sys.stdin:
    began_s, cpu_s = time.perf_counter(), time.process_time()
    num_words = sum(len(one.words) for one in transcriber.transcribe(clips))
    print(time.process_time() - cpu_s, time.perf_counter() - began_s, num_words, flush=True)
"""


def started(checkout: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def turn(worker: subprocess.Popen) -> tuple[float, float, int]:
    """CPU seconds, wall seconds and words of one turn."""
    worker.stdin.write("go\n")
    cpu_s, wall_s, num_words = worker.stdout.readline().split()
    return float(cpu_s), float(wall_s), int(num_words)


def main() -> None:
    turns, *checkouts = sys.argv[1:]
    workers = {place: started(Path(place).resolve()) for place in checkouts}
    taken = {place: [] for place in checkouts}
    for number in range(int(turns) + 1):
        for place, worker in workers.items():
            found = turn(worker)
            if number:  # the first warms up
                taken[place].append(found)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    sys.stdout.writelines(f"{line}\n" for line in table(taken))


def table(taken: dict[str, list[tuple[float, float, int]]]) -> list[str]:
    lines = ["| checkout | CPU, s | ratio | wall, s | ratio | words |", "|---|--:|--:|--:|--:|--:|"]
    first_cpu_s, first_wall_s = (
        median(column) for column in list(zip(*first(taken), strict=True))[:2]
    )
    for place, found in taken.items():
        cpu_s, wall_s = (median(column) for column in list(zip(*found, strict=True))[:2])
        ratios = (
            f"{cpu_s:.2f} | {cpu_s / first_cpu_s:.3f} | {wall_s:.2f} | {wall_s / first_wall_s:.3f}"
        )
        lines.append(f"| {Path(place).name} | {ratios} | {found[0][2]} |")
    return lines


def first(taken: dict[str, list[tuple[float, float, int]]]) -> list[tuple[float, float, int]]:
    return next(iter(taken.values()))


if __name__ == "__main__":
    main()
