"""`nightscribe bench` as a user runs it."""

import json

import pytest
import torch

from nightscribe.benchmarks import machine_speed
from nightscribe.benchmarks.machine_speed import BenchLimits
from nightscribe.benchmarks.random_weights import config_of
from nightscribe.jobs import bench, doctor, plan
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.survey.costs import known_results, measured_speed
from tests.benchmarks.test_report import parsed


def smallest_limits(device: torch.device) -> BenchLimits:
    return BenchLimits(
        device=device,
        max_slots=16,
        num_slots=2,
        num_rounds=1,
        encode_rows=2,
        long_s=(1.0, 2.0),
        short_s=(0.2, 0.6),
        shard_s=(0.6, 1.0),
        overlap_s=0.1,
        short_per_slot=3,
        shards_per_slot=3,
    )


@pytest.fixture
def say(monkeypatch, nightscribe, tmp_path):
    monkeypatch.setattr(bench.BenchLimits, "of", smallest_limits)
    monkeypatch.setattr(bench, "_sizes", lambda model: config_of("toy"))

    return lambda *words: nightscribe("bench", *words, "device=cpu", f"bench_results={tmp_path}")


def tables_of(text: str) -> list[list[dict[str, str]]]:
    return [parsed(part) for part in text.split("## ")[1:]]


def test_the_curve_the_workloads_and_a_summary_go_to_the_terminal_and_to_a_file(say, tmp_path):
    code, out, _ = say("model=tiny")
    assert code == 0
    steps, throughputs, (summary,) = tables_of(out)
    assert [row["slots"] for row in steps] == ["8", "16"]
    assert [row["clips"] for row in throughputs] == ["long", "short", "shards"]
    assert all(0 < float(row["occupancy"]) <= 1 for row in throughputs)
    assert summary["model"] == "tiny"
    (path,) = tmp_path.iterdir()
    assert out.endswith(f"{path}\n")
    text = path.read_text()
    assert tables_of(text) == tables_of(out)
    assert "`nightscribe bench model=tiny device=cpu`" in text
    for known in ("torch 2", "commit ", "load ", "random weights"):
        assert known in text


def test_results_in_different_precisions_are_kept_side_by_side(say, tmp_path):
    for dtype in ("float32", "bfloat16"):
        say("model=tiny", f"dtype={dtype}")
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 2


def test_plan_and_doctor_read_the_folder_that_bench_writes_to(monkeypatch, tmp_path):
    assert len({one().bench_results for one in (bench.BenchConfig, doctor.DoctorConfig)}) == 1
    assert plan.PlanConfig().bench_results == bench.BenchConfig().bench_results
    monkeypatch.setattr(machine_speed, "machine_name", lambda device: "NVIDIA H200")
    model = ModelConfig(name="m", checkpoint="m")
    config = bench.BenchConfig(bench_results=str(tmp_path), device="cpu", model=model)
    record = {"gpu": "NVIDIA H200", "model": "m", "times_real_time": 240.0, "date": "2026-11-30"}
    bench._write_record(config, record, torch.device("cpu"))
    known = known_results(str(tmp_path))
    for name in ("h200", "NVIDIA H200"):
        assert measured_speed(name, "m", known).times_real_time == 240


def test_a_record_has_the_speed_of_every_workload():
    speed = machine_speed.ModelSpeed(model="m")
    for name in machine_speed.WORKLOADS:
        workload = machine_speed.Workload(name=name, shortest_s=1, longest_s=1, num_clips=1)
        cost = machine_speed.Throughput(workload=workload, audio_s=9, wall_s=3, occupancy=0.5)
        speed.throughputs.append(("float32", cost))
    record = json.loads(json.dumps(speed.record(torch.device("cpu"), "float32")))
    assert record["times_real_time"] == record["times_real_time_short"] == 3
    assert record["occupancy"] == 0.5


def test_a_cpu_is_measured_over_fewer_slots_than_a_gpu():
    cpu, gpu = (BenchLimits.of(torch.device(name)) for name in ("cpu", "cuda"))
    assert cpu.max_slots < gpu.max_slots
    assert cpu.num_slots < gpu.num_slots


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["num_threads=0"], "num_threads must be positive"),
        (["dtype=int3"], "dtype"),
        (["kv_cache_dtype=int3"], "kv_cache_dtype"),
        (["size=toy"], "size"),
    ],
)
def test_what_cannot_be_measured_is_reported_in_one_sentence(say, words, complaint):
    code, _, err = say("model=tiny", *words)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1
