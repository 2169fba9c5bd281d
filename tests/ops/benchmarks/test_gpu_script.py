"""The script for a GPU goes through all of its stages at toy size on a CPU, and no stage that is
lost takes another's table with it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nightscribe.benchmarks.measurements import (
    StepCost,
    copy_bytes_per_s,
    fill_with_noise,
    read_bytes_per_s,
)
from nightscribe.benchmarks.report import Table
from nightscribe.survey.costs import read_benchmarks
from ops.benchmarks.gpu.stage import Stage, failures_of, tables_of
from ops.benchmarks.gpu.summary import summary_lines
from ops.benchmarks.gpu.workloads import rates_of

SCRIPT = Path("ops/benchmarks/gpu.sh")
CPU = torch.device("cpu")
STAGES = (
    "machine",
    "kernel-tests",
    "codec-tests",
    "attention",
    "sweep",
    "profiles",
    "codec",
    "workloads-toy",
    "peers",
    "curve",
    "speech",
)


def run(
    folder: Path, python: str, device: str = "cpu", **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": python} | variables
    words = ["sh", str(SCRIPT), str(folder), "toy", device]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def program(path: Path, text: str) -> str:
    """In place of the interpreter."""
    path.write_text(text.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


# The tests that two stages run are in this suite; here they are only found.
MEASURING = """#!/bin/sh
case "$*" in
*"-m pytest "*) {python} "$@" --collect-only -q && echo "2 passed in 1 s" ;;
*) exec {python} "$@" ;;
esac
"""


pytestmark = pytest.mark.timeout(1100)  # a busy machine takes many times as long


@pytest.fixture(scope="module", params=["measuring", pytest.param("whole", marks=pytest.mark.slow)])
def dry(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dry")
    is_whole = request.param == "whole"
    python = sys.executable if is_whole else program(folder / "python", MEASURING)
    return folder, run(folder, python, SLOWNESS="5", TOTAL_S="1000")


def test_every_stage_runs_at_toy_size_on_a_cpu(dry):
    folder, ended = dry
    lines = (folder / "stages" / "times.tsv").read_text().splitlines()
    assert [tuple(line.split("\t")[:2]) for line in lines] == [(name, "0") for name in STAGES], (
        ended.stdout + ended.stderr
    )
    for name in STAGES:
        if not name.endswith("-tests"):
            assert tables_of(folder, name), name
            assert not failures_of(folder, name)


def test_the_summary_is_ten_lines_without_a_gap(dry):
    folder, ended = dry
    lines = summary_lines(folder, ["toy"])
    assert len(lines) <= 10
    assert all(line in ended.stdout for line in lines)
    assert not [line for line in lines if "lost" in line]
    assert re.search(r"toy: long \(1 s\) [\d.,]+ x, [\d.,e-]+ % of the limit", "\n".join(lines))


def test_one_file_has_all_tables_and_says_how_they_were_measured(dry):
    folder, _ = dry
    (path,) = folder.glob("gpu_*.md")
    text = path.read_text()
    for known in ("`sh ops/benchmarks/gpu.sh FOLDER toy cpu`", "torch 2", "commit ", "## Summary"):
        assert known in text
    for name in STAGES:
        for table in tables_of(folder, name):
            assert table.title in text
    assert read_benchmarks(folder) == []  # the speed of a CPU is no plan for a GPU


def test_eight_bits_are_read_as_fewer_bytes_and_a_part_of_a_ring_as_a_part(dry):
    folder, _ = dry
    rows = [row for table in tables_of(folder, "attention") for row in table.rows]
    read = {(cache, fill): gb for _, _, cache, fill, _, _, gb, _ in rows}
    assert read["int8", 1.0] < read["float32", 1.0]
    assert read["float32", 0.5] == pytest.approx(read["float32", 1.0] / 2, rel=0.05)


FAKE = """#!/bin/sh
case "$*" in
*gpu.machine*) kill -SEGV $$ ;;
*gpu.attention*) exec sleep 60 ;;
*gpu.summary*) exec {python} "$@" ;;
*) echo "2 passed in 1 s" ;;
esac
"""


def test_a_crash_and_a_hang_lose_only_their_own_stage(tmp_path):
    fake = program(tmp_path / "python", FAKE)
    ended = run(tmp_path / "out", fake, TOTAL_S="19")
    ends = dict(re.findall(r"^(\S+): \d+ s, exit code (\d+)$", ended.stdout, re.M))
    assert ends["machine"] == "139"
    assert ends["kernel-tests"] == ends["codec-tests"] == "0"
    assert {ends[name] for name in STAGES[3:]} == {"124"}  # the hang took all that was left
    assert "machine (exit code 139), attention (out of time)" in ended.stdout
    assert "Kernel tests: 2 passed" in ended.stdout


COMPILING = """#!/bin/sh
case "$*" in
*fused_kernel_code*|*gpu.compiled*) echo "$3"; exec sleep 20 ;;
*) exit 0 ;;
esac
"""


def test_on_a_gpu_no_stage_waits_until_kernels_are_compiled(tmp_path):
    began_s = time.monotonic()
    ended = run(tmp_path, program(tmp_path / "python", COMPILING), device="cuda")
    assert ended.stdout.count("exit code 0") == len(STAGES)
    assert (tmp_path / "stages" / "kernel-code.log").read_text() == "here\n"
    assert (tmp_path / "stages" / "compiled.log").read_text() == f"{tmp_path}\n"
    assert time.monotonic() - began_s < 20


STUBBORN = """#!/bin/sh
case "$*" in
*test_on_gpu*) trap 'echo "1 passed in 2 s"' INT; while :; do sleep 0.1; done ;;
*gpu.summary*) exec {python} "$@" ;;
esac
"""


def test_an_interrupted_stage_tells_what_it_has_and_a_stubborn_one_is_killed(tmp_path):
    fake = program(tmp_path / "python", STUBBORN)
    ended = run(tmp_path / "out", fake, TOTAL_S="19")
    assert re.search(r"^kernel-tests: [3-6] s, exit code 124$", ended.stdout, re.M)
    assert "kernel-tests (out of time)" in ended.stdout
    assert "Kernel tests: 1 passed" in ended.stdout


WATCHED = """#!/bin/sh
echo "$@" >>{folder}/limits
shift 5
exec "$@"
"""


def test_what_a_stage_does_not_need_is_added_to_the_next(tmp_path):
    watched = tmp_path / "bin" / "timeout"
    watched.parent.mkdir()
    watched.write_text(WATCHED.replace("{folder}", str(tmp_path)))
    watched.chmod(0o755)
    path = f"{watched.parent}:{os.environ['PATH']}"
    run(tmp_path, program(tmp_path / "python", "#!/bin/sh\n"), PATH=path)
    lines = (tmp_path / "limits").read_text().splitlines()
    limits_s = [int(line.split()[4]) for line in lines]
    assert 11 < limits_s[0] <= 20 < limits_s[1]
    assert 50 <= limits_s[1] <= 60
    assert limits_s[1] + 24 <= limits_s[2]


def test_all_stages_of_two_sizes_fit_into_eight_minutes():
    text = SCRIPT.read_text()
    limits = re.findall(r"^\s*(?:measure|stage) (\S+) (\d+)\b", text, re.M)
    limits_s = {name.strip('"'): int(limit_s) for name, limit_s in limits}
    assert len(limits_s) == len(STAGES)
    summary_s = int(re.search(r"summary_s=(\d+)", text)[1])
    most_s = sum(limits_s.values()) + limits_s["workloads-$size"] + summary_s
    assert most_s <= 480


def stage(folder: Path) -> Stage:
    return Stage.of("trial", [str(folder), "toy", "cpu"])


def table(title: str) -> Table:
    return Table(title=title, columns=("a",), rows=[(1,)])


BARE = """
import importlib, importlib.abc, importlib.metadata, sys

def needs(name):
    for one in importlib.metadata.requires(name) or []:
        if "extra ==" not in one:
            yield re.match(r"[\\w.-]+", one)[0].lower().replace("_", "-")

import re
installed = {one.name.lower().replace("_", "-") for one in importlib.metadata.distributions()}
there, found = set(), {"torch", "transformers", "triton"}
while found:
    there |= found
    found = {need for one in found & installed for need in needs(one)} - there
packages = importlib.metadata.packages_distributions()
absent = {
    module
    for module, names in packages.items()
    if not there & {name.lower().replace("_", "-") for name in names}
} - {"nightscribe", "ops"}

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not on a bare machine")

assert {"sentencepiece", "moshi", "hydra"} <= absent and "numpy" not in absent
sys.meta_path.insert(0, Absent())
for stage in sys.argv[1:]:
    importlib.import_module(f"ops.benchmarks.gpu.{stage}")
"""


def test_a_machine_with_torch_and_transformers_has_all_that_the_stages_import():
    stages = [path.stem for path in Path("ops/benchmarks/gpu").glob("[!_]*.py")]
    words = [sys.executable, "-c", BARE, *stages]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_what_was_measured_before_an_error_is_kept(tmp_path):
    running = stage(tmp_path)

    def tables():
        yield table("before")
        raise RuntimeError("an illegal memory access\nand a long story")

    running.measure("some", tables)
    running.measure("others", table, "after")
    assert [one.title for one in tables_of(tmp_path, "trial")] == ["before", "after"]
    assert failures_of(tmp_path, "trial") == ["some: RuntimeError: an illegal memory access"]
    with pytest.raises(SystemExit, match="1"):
        running.end()


def test_a_table_is_on_disk_as_soon_as_it_is_measured(tmp_path):
    running = stage(tmp_path)

    def tables():
        yield table("first")
        assert [one.title for one in tables_of(tmp_path, "trial")] == ["first"]
        yield table("second")

    running.measure("some", tables)
    assert not running.failures


def test_without_the_rates_of_the_machine_there_is_no_limit(tmp_path):
    assert rates_of(stage(tmp_path), "toy") is None


def test_noise_is_finite_in_every_dtype_of_a_cache():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8):
        noise = torch.zeros(10_000, dtype=dtype)
        fill_with_noise(noise)
        assert noise.float().isfinite().all()
        assert len(noise.float().unique()) > 50


def test_a_copy_is_read_and_written(monkeypatch):
    monkeypatch.setattr("nightscribe.benchmarks.measurements.COPY_REPEATS", 1)
    assert 1e8 < copy_bytes_per_s(CPU) < 1e13
    assert 1e8 < read_bytes_per_s(CPU) < 1e13


def test_a_step_is_held_against_its_bytes_and_the_clock():
    point = StepCost(
        num_slots=100, in_rounds_s=0.01, median_s=0.011, p99_s=0.09, frame_s=0.08, read_bytes=2e9
    )
    assert point.times_real_time == pytest.approx(800)
    assert point.bytes_per_s == pytest.approx(2e11)
    assert not point.keeps_up
