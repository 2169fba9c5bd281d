"""The suite for a GPU goes through all of its code at toy sizes on a CPU."""

import json

import pytest
import torch

from nightscribe.benchmarks import suite as suites
from nightscribe.benchmarks.bandwidth import copy_bytes_per_s
from nightscribe.benchmarks.curve import CurvePoint
from nightscribe.benchmarks.random_weights import random_speech
from nightscribe.benchmarks.sizes import config_of
from nightscribe.benchmarks.suite import SuiteTerms, measure_suite
from nightscribe.benchmarks.suite_tables import SizeResult
from nightscribe.benchmarks.throughput import Throughput, Workload
from nightscribe.model.memory_budget import memory_budget
from nightscribe.model.precision import Precision
from nightscribe.survey.costs import read_benchmarks
from tests.benchmarks.test_tables import parsed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def suite():
    return measure_suite(SuiteTerms.of(["toy"], CPU))


def test_everything_is_measured(suite):
    steps, attention, codec, passes, heard, summary = (
        parsed(table.markdown()) for table in suite.tables
    )
    assert [(row["cache"], row["slots"]) for row in steps] == [
        (cache, slots) for cache in ("float32", "float8", "int8") for slots in ("8", "16")
    ]
    assert [(row["cache"], row["way"]) for row in attention] == [
        (cache, way) for cache in ("float32", "float8", "int8") for way in ("products", "masked")
    ]
    assert all(float(row["ms"]) > 0 for row in attention)
    assert [row["numbers"] for row in codec] == ["fp32", "TF32 convolutions", "TF32"]
    assert [(row["frames"], row["slots"]) for row in passes] == [("2", "8"), ("3", "8"), ("4", "8")]
    assert all(float(row["frames that must be right to gain"]) > 0 for row in passes)
    assert codec[0]["codes flipped, %"] == "0"
    assert [(row["cache"], row["clips"]) for row in heard] == [
        *(("float32", clips) for clips in ("long", "short", "shards")),
        ("float8", "long"),
        ("int8", "long"),
    ]
    assert len(summary) == 1
    figures = [float(cell.replace(",", "")) for cell in list(summary[0].values())[1:4]]
    assert min(figures) > 0


def test_what_others_can_do_without_is_left_out_in_time(monkeypatch):
    monkeypatch.setattr(suites, "cache_dtype_of", lambda cache, dtype, device: torch.int8)
    monkeypatch.setattr(suites, "measure_pass", fails)
    terms = SuiteTerms.of(["toy"], CPU)
    monkeypatch.setattr(suites.time, "monotonic", iter((0, 1, 2, 3, 999)).__next__)
    result = suites._measure_size("toy", terms)
    assert result.refused == [
        "Not measured, several frames in one pass: no such kernel.",
        "The suite's time was over before the int8 cache.",
    ]
    assert [cache for cache, _ in result.heard] == ["float32"] * 3 + ["int8"]


def fails(*args):
    raise RuntimeError("no such kernel\nand a long story")


def test_a_cpu_gives_no_figures_for_plans(suite):
    assert suite.measurements == []


def test_eight_bits_are_read_as_fewer_bytes(suite):
    read = {row["cache"]: row["GB read a step"] for row in parsed(suite.tables[0].markdown())}
    assert float(read["int8"]) < float(read["float32"])


def test_a_copy_is_read_and_written(monkeypatch):
    monkeypatch.setattr("nightscribe.benchmarks.bandwidth.REPEATS", 1)
    assert 1e8 < copy_bytes_per_s(CPU) < 1e13


def test_a_step_is_held_against_its_bytes_and_the_clock():
    point = CurvePoint(
        num_slots=100,
        in_rounds_s=0.01,
        median_s=0.011,
        slowest_s=0.09,
        frame_s=0.08,
        read_bytes=2e9,
    )
    assert point.times_real_time == pytest.approx(800)
    assert point.bytes_per_s == pytest.approx(2e11)
    assert not point.keeps_up


def test_plans_read_what_a_gpu_was_measured_at(monkeypatch, tmp_path):
    monkeypatch.setattr(suites, "machine_of", lambda device: "NVIDIA H200")
    monkeypatch.setattr(suites, "dtype_of", lambda name, device: torch.bfloat16)
    workload = Workload(name="long", shortest_s=60, longest_s=60, num_clips=8)
    heard = Throughput(workload=workload, sound_s=480, wall_s=2, occupancy=1)
    result = SizeResult(size="1b", heard=[("bfloat16", heard)])
    measured = suites._for_plans([result], torch.device("cuda"))
    (tmp_path / "suite.json").write_text(json.dumps(measured))
    (read,) = read_benchmarks(tmp_path)
    assert (read["gpu"], read["model"], read["times_real_time"]) == (
        "NVIDIA H200",
        "stt-1b-en_fr",
        240,
    )


def test_the_curve_ends_where_the_memory_does(monkeypatch):
    terms = SuiteTerms(device=CPU, sizes=["toy"], max_slots=1024)
    speech = random_speech(config_of("toy"), CPU, torch.float32)
    numbers = Precision(weights="float32", activations="float32", cache="float32")
    needs = memory_budget(speech.config, numbers, round_steps=25, encode_rows=terms.encode_rows)
    beside_bytes = needs.encoding + needs.graphs
    for num_slots, free_bytes in (
        (1024, 10**12),
        (64, (beside_bytes + 100 * needs.per_slot) / suites.KEPT_SHARE),
        (8, 10**6),
    ):
        monkeypatch.setattr(suites, "free_bytes_of", lambda device, free=free_bytes: free)
        assert suites._fitting_slots(speech, "float32", terms) == num_slots
