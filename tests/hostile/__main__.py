"""`python -m tests.hostile 10000 FIGURES.md`: a long run, with its results in a file."""

import os
import platform
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from nightscribe.audio.ffmpeg import find_ffmpeg, version
from tests.hostile.checks import HostileRun, foreign_calls, problems, run_corpus
from tests.hostile.tracing import STRACE

MIB = 2**20
SHOWN = 10


def main(num_files: str, figures: str, seed: str = "0") -> int:
    with tempfile.TemporaryDirectory() as place:
        run = run_corpus(Path(place), int(num_files), int(seed))
        found = problems(run) + (foreign_calls(run) if STRACE else ["strace is missing"])
    Path(figures).write_text(_page(run, found, seed))
    return 1 if found else 0


def _page(run: HostileRun, found: list[str], seed: str) -> str:
    longest = sorted((one.get("took_s", 0.0) for one in run.results), reverse=True)
    ends = Counter(end.partition(":")[0] for _, end in run.outcomes().elements())
    first, last = run.samples[0], run.samples[-1]
    facts = [
        f"{len(run.files):,} files, seed {seed}, {run.took_s:.0f} s, exit code {run.exit_code}",
        ", ".join(f"{count:,} {end}" for end, count in ends.most_common()),
        f"longest file {longest[0]:.1f} s, median {longest[len(longest) // 2]:.2f} s",
        f"largest ffmpeg {run.largest_child_bytes / MIB:.0f} MiB resident",
        f"the process: {first['resident_bytes'] / MIB:.0f} MiB at first, "
        f"{last['resident_bytes'] / MIB:.0f} MiB at last; "
        f"{first['num_descriptors']} and {last['num_descriptors']} descriptors",
        f"{len(run.calls):,} calls for files, hosts and programs were traced",
        f"problems: {len(found) or 'none'}",
    ]
    rows = [f"| {k} | {end} | {n} |" for (k, end), n in sorted(run.outcomes().items())]
    return "\n".join(
        [
            "# Decoding of hostile files",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, ffmpeg {version(find_ffmpeg())}; "
            f"`python -m tests.hostile {len(run.files)} FIGURES.md {seed}`. "
            "The machine was shared: times are upper bounds.",
            "",
            *(f"- {fact}" for fact in facts),
            *(f"  - {one}" for one in found[:SHOWN]),
            "",
            "| kind | result | files |",
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
