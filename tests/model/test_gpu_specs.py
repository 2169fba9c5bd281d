"""Throughput estimates follow from memory bandwidth and the slots that share the weights."""

import subprocess
import sys

import pytest

from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.device import device_like, fit_report
from nightscribe.model.gpu_specs import GPUS, estimate_throughput, gpu_named, plain_name

BIG, SMALL = PUBLISHED["stt-2.6b-en"], PUBLISHED["stt-1b-en_fr"]


@pytest.mark.parametrize("gpu", GPUS, ids=plain_name)
@pytest.mark.parametrize("config", [BIG, SMALL], ids=["2.6b", "1b"])
def test_the_slots_are_those_the_doctor_shows(gpu, config):
    told = fit_report(config, device_like(gpu), EngineConfig())
    assert estimate_throughput(config, gpu).num_slots == told.num_slots


def test_a_gpu_of_twice_the_bandwidth_is_twice_as_fast():
    slow, fast = gpu_named("h100"), gpu_named("h200")
    ratio = fast.memory_tb_per_s / slow.memory_tb_per_s
    seconds = [estimate_throughput(BIG, gpu).times_real_time for gpu in (slow, fast)]
    assert seconds[1] == pytest.approx(ratio * seconds[0])


def test_few_slots_share_the_weights_badly():
    """Per byte a second, a T4 with room for few streams does less than an H200."""
    per_tb = {
        name: estimate_throughput(BIG, gpu_named(name)).times_real_time
        / gpu_named(name).memory_tb_per_s
        for name in ("t4", "l4", "l40s", "h200")
    }
    assert per_tb["t4"] < 0.75 * per_tb["h200"]
    assert sorted(per_tb, key=per_tb.get) == ["t4", "l4", "l40s", "h200"]


def test_what_does_not_fit_or_is_not_known_has_no_estimate():
    assert estimate_throughput(BIG, gpu_named("L4 4GB")) is None
    assert estimate_throughput(BIG, gpu_named("sm90 80GB")) is None


@pytest.mark.parametrize("written", ["rtx4090", "RTX 4090", "4090", "NVIDIA GeForce RTX 4090"])
def test_a_gpu_may_be_called_as_people_call_it(written):
    assert gpu_named(written).name == "RTX 4090"


def test_an_estimate_loads_no_torch():
    script = (
        "import sys, nightscribe.model.gpu_specs, nightscribe.model.checkpoints.native_config; "
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "False\n")
