"""`python -m tests.hostile 10000 FIGURES.md`: the long form, with its figures written down."""

import os
import platform
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from nightscribe.audio.ffmpeg import find_ffmpeg, version
from tests.hostile.tracing import STRACE
from tests.hostile.trial import Trial, hold, objections, trespasses

MIB = 2**20
SHOWN = 10


def main(num_files: str, figures: str, seed: str = "0") -> int:
    with tempfile.TemporaryDirectory() as place:
        trial = hold(Path(place), int(num_files), int(seed))
        wrong = objections(trial) + (trespasses(trial) if STRACE else ["there was no tracer"])
    Path(figures).write_text(_page(trial, wrong, seed))
    return 1 if wrong else 0


def _page(trial: Trial, wrong: list[str], seed: str) -> str:
    longest = sorted((one.get("took_s", 0.0) for one in trial.answers), reverse=True)
    ends = Counter(end.partition(":")[0] for _, end in trial.outcomes().elements())
    first, last = trial.looks[0], trial.looks[-1]
    facts = [
        f"{len(trial.files):,} files, seed {seed}, {trial.took_s:.0f} s, "
        f"exit code {trial.exit_code}",
        ", ".join(f"{count:,} {end}" for end, count in ends.most_common()),
        f"longest file {longest[0]:.1f} s, median {longest[len(longest) // 2]:.2f} s",
        f"largest ffmpeg {trial.largest_child_bytes / MIB:.0f} MiB resident",
        f"the process: {first['resident_bytes'] / MIB:.0f} MiB at first, "
        f"{last['resident_bytes'] / MIB:.0f} MiB at last; "
        f"{first['num_descriptors']} and {last['num_descriptors']} descriptors",
        f"{len(trial.calls):,} calls for files, hosts and programs were traced",
        f"objections: {len(wrong) or 'none'}",
    ]
    rows = [f"| {k} | {end} | {n} |" for (k, end), n in sorted(trial.outcomes().items())]
    return "\n".join(
        [
            "# Hostile files through the decode door",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, ffmpeg {version(find_ffmpeg())}; "
            f"`python -m tests.hostile {len(trial.files)} FIGURES.md {seed}`. "
            "The machine was shared: times are upper bounds.",
            "",
            *(f"- {fact}" for fact in facts),
            *(f"  - {one}" for one in wrong[:SHOWN]),
            "",
            "| kind | came to | files |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
