"""All tables of a run of the script in one file, and a summary of ten lines.

python -m ops.benchmarks.gpu.summary FOLDER SIZES DEVICE
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightscribe.benchmarks.report import Table, conditions, file_name, formatted
from ops.benchmarks.gpu import attention, codec, machine, peers, workloads
from ops.benchmarks.gpu.stage import STAGES, Stage, failures_of, records_of, tables_of
from ops.benchmarks.side_by_side import OTHERS

TIMES = "times.tsv"
OUT_OF_TIME = 124
WORKLOADS = ("long", "shards", "short")


@dataclass(frozen=True, slots=True)
class StageEnd:
    """How a stage ended."""

    name: str
    exit_code: int
    wall_s: int

    @property
    def ending(self) -> str:
        if self.exit_code == OUT_OF_TIME:
            return "out of time"
        return "complete" if self.exit_code == 0 else f"exit code {self.exit_code}"


def ends_of(folder: Path) -> list[StageEnd]:
    lines = (folder / STAGES / TIMES).read_text().splitlines()
    cells = (line.split("\t") for line in lines)
    return [StageEnd(name, int(code), int(wall_s)) for name, code, wall_s in cells]


def summary_lines(folder: Path, sizes: Sequence[str]) -> list[str]:
    """At most ten lines; what is lost is said in the last."""
    ends = ends_of(folder)
    rows = [row for end in ends for row in records_of(tables_of(folder, end.name))]
    lines = [
        _versions(rows),
        _bandwidth(rows),
        _tests(folder),
        _attention(rows),
        _codec(rows),
        *(_speeds(rows, size) for size in sizes[:2]),
        _steps(rows, sizes),
        _compared(rows),
        _lost(ends, folder),
    ]
    return [line for line in lines if line]


def _titled(rows: Iterable[dict], title: str) -> list[dict]:
    return [row for row in rows if row["title"].startswith(title)]


def _versions(rows: list[dict]) -> str:
    found = {row["what"]: row["version"] for row in _titled(rows, machine.VERSIONS)}
    names = ("device", "torch", "triton", "CUDA", "transformers", "moshi")
    return "Machine: " + ", ".join(
        found[name] if name == "device" else f"{name} {found[name]}"
        for name in names
        if name in found
    )


def _bandwidth(rows: list[dict]) -> str:
    rates = {row["what"]: formatted(row["GB/s"]) for row in _titled(rows, machine.BANDWIDTH)}
    products = [row["TFLOP/s"] for row in _titled(rows, machine.PRODUCTS)]
    best = formatted(max(products)) if products else "?"
    parts = (f"{what} {rate} GB/s" for what, rate in rates.items())
    return f"Bandwidth: {', '.join(parts) or 'lost'}; best product {best} TFLOP/s"


def _tests(folder: Path) -> str:
    logs = [folder / STAGES / f"{name}.log" for name in ("kernel-tests", "codec-tests")]
    found = [
        ", ".join(re.findall(r"\d+ (?:passed|failed|skipped|errors?)", log.read_text()))
        if log.exists()
        else ""
        for log in logs
    ]
    return f"Kernel tests: {'; of the codec and weights: '.join(one or 'lost' for one in found)}"


def _attention(rows: list[dict]) -> str:
    full = [row for row in _titled(rows, attention.TITLE) if row["fill"] == 1]
    best: dict[tuple[str, str], dict] = {}
    for row in full:
        key = row["model"], row["cache"]
        if key not in best or row["us"] < best[key]["us"]:
            best[key] = row
    parts = (
        f"{model} {cache} {row['backend']} {formatted(row['share of copy, %'])} %"
        for (model, cache), row in best.items()
    )
    return f"Attention, full rings, fastest, share of copy: {', '.join(parts) or 'lost'}"


def _codec(rows: list[dict]) -> str:
    speeds = (
        f"{row['precision']} {formatted(row['times real time'])} x"
        for row in _titled(rows, codec.PRECISION)
    )
    cold = [row["first call, ms"] for row in _titled(rows, codec.COLD)]
    worst = f"; slowest first call {formatted(max(cold))} ms" if cold else ""
    return f"Mimi alone: {', '.join(speeds) or 'lost'}{worst}"


def _speeds(rows: list[dict], size: str) -> str:
    found = [row for row in _titled(rows, workloads.SPEEDS + ": ") if row["model"] == size]
    parts = []
    for name in WORKLOADS:
        for row in found:
            if row["clips"] == name:
                parts.append(_speed(name, row))
    return f"{size}: {'; '.join(parts) or 'lost'}"


def _speed(name: str, row: dict) -> str:
    text = f"{name} ({formatted(row['s'])} s) {formatted(row['x real time'])} x"
    if row["% of it"] is not None:
        text += f", {formatted(row['% of it'])} % of the limit"
    if row["host ms"] is not None:
        text += f", host {formatted(row['host ms'])} of {formatted(row['GPU ms'])} ms"
    return text


def _steps(rows: list[dict], sizes: Sequence[str]) -> str:
    title = "A step by number of slots"
    parts = []
    for size in sizes:
        found = [row for row in _titled(rows, title) if row["model"] == size]
        if found:
            best = max(found, key=lambda row: row["times real time"])
            share = formatted(best["share of the copy's GB/s, %"])
            parts.append(
                f"{size} {formatted(best['ms a step'])} ms over {best['slots']}, {share} %"
            )
    return f"Steps, full rings, share of copy: {', '.join(parts) or 'lost'}"


def _compared(rows: list[dict]) -> str:
    parts = [
        f"{row['title'].partition(': ')[2]} {_ratios(row)}"
        for row in (*_titled(rows, peers.STEPS), *_titled(rows, peers.CLIPS))
    ]
    return f"Times as fast as moshi, transformers: {'; '.join(parts) or 'lost'}"


def _ratios(row: dict) -> str:
    return ", ".join(formatted(row[f"x {peer}"]) or "not installed" for peer in OTHERS)


def _lost(ends: Sequence[StageEnd], folder: Path) -> str:
    lost = [f"{end.name} ({end.ending})" for end in ends if end.exit_code]
    seconds = sum(end.wall_s for end in ends)
    failures = sum(len(failures_of(folder, end.name)) for end in ends)
    incomplete = ", ".join(lost) or "none"
    return f"Stages: {len(ends)} in {seconds} s; incomplete: {incomplete}; failures: {failures}"


def main(stage: Stage) -> None:
    folder = stage.folder.parent
    summary = summary_lines(folder, stage.sizes)
    path = folder / file_name("gpu", stage.device)
    path.write_text("\n".join(_document(path.stem, stage, folder, summary)))
    sys.stdout.write("\n".join((*summary, str(path), "")))


def _document(title: str, stage: Stage, folder: Path, summary: Sequence[str]) -> Iterator[str]:
    ends = ends_of(folder)
    yield f"# {title}\n"
    yield f"`sh ops/benchmarks/gpu.sh FOLDER {','.join(stage.sizes)} {stage.device.type}`\n"
    yield from (f"- {line}" for line in conditions(stage.device))
    yield "\n## Summary\n"
    yield from (f"- {line}" for line in summary)
    yield ""
    rows = [(end.name, end.wall_s, end.ending) for end in ends]
    yield Table(title="Stages", columns=("stage", "s", "ended"), rows=rows).markdown()
    for end in ends:
        yield from (table.markdown() for table in tables_of(folder, end.name))
        yield from (f"- not measured, {one}" for one in failures_of(folder, end.name))


if __name__ == "__main__":
    main(Stage.of("summary", sys.argv[1:]))
