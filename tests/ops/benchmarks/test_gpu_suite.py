"""The suite for a GPU goes through all of its code at toy sizes on a CPU."""

import json
from dataclasses import replace

import pytest
import torch

from nightscribe.benchmarks import machine_speed
from nightscribe.benchmarks.machine_speed import BenchLimits, fitting_slots
from nightscribe.benchmarks.measurements import StepCost, Throughput, Workload, copy_bytes_per_s
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.model.memory_budget import memory_budget
from nightscribe.model.precision import Precision
from nightscribe.survey.costs import read_benchmarks
from ops.benchmarks import gpu_suite
from ops.benchmarks.gpu_suite import (
    SuiteOptions,
    measure_size,
    measure_suite,
    records_of,
)
from ops.benchmarks.gpu_suite_tables import SizeResult
from tests.benchmarks.test_report import parsed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def suite():
    return measure_suite(SuiteOptions.of(["toy"], CPU))


def test_everything_is_measured(suite):
    steps, attention, codec, passes, throughputs, summary = (
        parsed(table.markdown()) for table in suite.tables
    )
    assert [(row["cache"], row["slots"]) for row in steps] == [
        (cache, slots) for cache in ("float32", "float8", "int8") for slots in ("8", "16")
    ]
    assert [(row["cache"], row["backend"]) for row in attention] == [
        (cache, way) for cache in ("float32", "float8", "int8") for way in ("cpu", "sdpa")
    ]
    assert all(float(row["ms"]) > 0 for row in attention)
    assert [row["precision"] for row in codec] == ["fp32", "TF32 convolutions", "TF32"]
    assert [(row["frames"], row["slots"]) for row in passes] == [("2", "8"), ("3", "8"), ("4", "8")]
    assert all(float(row["accepted frames needed to gain"]) > 0 for row in passes)
    assert codec[0]["codes changed, %"] == "0"
    assert [(row["cache"], row["clips"]) for row in throughputs] == [
        *(("float32", clips) for clips in ("long", "short", "shards")),
        ("float8", "long"),
        ("int8", "long"),
    ]
    assert len(summary) == 1
    figures = [float(cell.replace(",", "")) for cell in list(summary[0].values())[1:4]]
    assert min(figures) > 0


def test_what_others_can_do_without_is_left_out_in_time(monkeypatch):
    monkeypatch.setattr(gpu_suite, "cache_dtype_of", lambda cache, dtype, device: torch.int8)
    monkeypatch.setattr(gpu_suite, "measure_pass", fails)
    options = SuiteOptions.of(["toy"], CPU)
    monkeypatch.setattr(gpu_suite.time, "monotonic", iter((0, 1, 2, 3, 999)).__next__)
    result = measure_size("toy", options)
    assert result.refused == [
        "Not measured, several frames in one pass: no such kernel.",
        "The time of the suite was over before the int8 cache.",
    ]
    assert [cache for cache, _ in result.speed.throughputs] == ["float32"] * 3 + ["int8"]


def fails(*args):
    raise RuntimeError("no such kernel\nand a long story")


def test_a_cpu_gives_no_figures_for_plans(suite):
    assert suite.records == []


def test_eight_bits_are_read_as_fewer_bytes(suite):
    read = {row["cache"]: row["GB read a step"] for row in parsed(suite.tables[0].markdown())}
    assert float(read["int8"]) < float(read["float32"])


def test_a_step_reads_the_weights_once_and_the_cache_of_every_slot(suite):
    rows = [row for row in parsed(suite.tables[0].markdown()) if row["cache"] == "float32"]
    of_8, of_16 = (float(row["GB read a step"]) for row in rows)
    assert of_8 < of_16 < 2 * of_8


def test_a_copy_is_read_and_written(monkeypatch):
    monkeypatch.setattr("nightscribe.benchmarks.measurements.COPY_REPEATS", 1)
    assert 1e8 < copy_bytes_per_s(CPU) < 1e13


def test_a_step_is_held_against_its_bytes_and_the_clock():
    point = StepCost(
        num_slots=100,
        in_rounds_s=0.01,
        median_s=0.011,
        p99_s=0.09,
        frame_s=0.08,
        read_bytes=2e9,
    )
    assert point.times_real_time == pytest.approx(800)
    assert point.bytes_per_s == pytest.approx(2e11)
    assert not point.keeps_up


def test_plans_read_what_a_gpu_was_measured_at(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_speed, "machine_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(gpu_suite, "dtype_of", lambda name, device: torch.bfloat16)
    workload = Workload(name="long", shortest_s=60, longest_s=60, num_clips=8)
    clips = [replace(workload, name=name) for name in ("long", "short", "shards")]
    result = SizeResult.of("1b")
    for clip in clips:
        cost = Throughput(workload=clip, audio_s=480, wall_s=2, occupancy=1)
        result.speed.throughputs.append(("bfloat16", cost))
    measured = records_of([result], torch.device("cuda"))
    (tmp_path / "suite.json").write_text(json.dumps(measured))
    (read,) = read_benchmarks(tmp_path)
    assert (read["gpu"], read["model"], read["times_real_time"]) == (
        "NVIDIA H200",
        "stt-1b-en_fr",
        240,
    )


def test_the_curve_ends_where_the_memory_does(monkeypatch):
    limits = BenchLimits(device=CPU)
    speech = random_speech(config_of("toy"), CPU, torch.float32)
    numbers = Precision(weights="float32", activations="float32", cache="float32")
    needs = memory_budget(speech.config, numbers, round_steps=25, encode_rows=limits.encode_rows)
    beside_bytes = needs.encoding + needs.graphs
    for num_slots, free_bytes in (
        (1024, 10**12),
        (64, (beside_bytes + 100 * needs.per_slot) / machine_speed.MEMORY_SHARE),
        (8, 10**6),
    ):
        monkeypatch.setattr(machine_speed, "free_bytes_of", lambda device, free=free_bytes: free)
        assert fitting_slots(speech, "float32", limits) == num_slots
