"""A recording ten times as long takes ten times as long, and no more memory."""

from time import process_time

import numpy as np
import pytest
import torch

from nightscribe.benchmarks.measurements import Elapsed
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.model.step_runner import StepRunner
from ops.benchmarks import growth
from ops.benchmarks.growth import EndlessNoise, StreamCost, measure_growth
from tests.benchmarks.test_report import parsed
from tests.fakes import HashingModel

CPU = torch.device("cpu")


def test_endless_noise_repeats_itself():
    sound = EndlessNoise(np.arange(7, dtype=np.int16), 40)
    assert len(sound) == 40
    assert sound[5:16].tolist() == [5, 6, 0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert len(sound[35:60]) == 5


def test_a_late_cut_takes_no_longer_than_an_early_one():
    num_samples = 7 * 10**9
    sound = EndlessNoise(np.arange(7, dtype=np.int16), num_samples)
    began_s = process_time()
    assert sound[num_samples - 3 :].tolist() == [4, 5, 6]
    assert process_time() - began_s < 0.5  # some seconds if it counts the periods before


def test_a_long_stream_runs_between_as_many_frames_of_short_ones(monkeypatch):
    lengths = []

    def estimate_cost(model, num_frames, device):
        lengths.append(num_frames)
        wall_s = num_frames * (1 if len(lengths) < 6 else 2)  # the machine slows down
        return StreamCost(num_frames, Elapsed(wall_s, 3 * wall_s), 5_000_000, 0)

    monkeypatch.setattr(growth, "run_stream", estimate_cost)
    table = measure_growth(HashingModel(2), 50, 4, 2, CPU)
    assert lengths == [50, *[50, 50, 200, 50, 50] * 2]
    first, second, middle = parsed(table.markdown())
    assert (float(first["short s"]), float(first["long s"])) == (62.5, 200)
    assert float(first["long / short"]) == float(first["long / short, CPU time"]) == 3.2
    assert float(second["long / short"]) == 4
    assert float(middle["long / short"]) == 3.6
    assert {row["more host MB"] for row in (first, second, middle)} == {"5"}
    assert not middle["more device MB"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_times_as_long_takes_ten_times_as_long_and_no_more_memory():
    torch.set_num_threads(1)
    speech = random_speech(config_of("toy"), CPU, torch.float32)
    model = StepRunner(speech, 1, 25)
    places = [tensor.data_ptr() for tensor in model.state_tensors()]
    table = measure_growth(model, 2_000, 10, 1, CPU)
    middle = parsed(table.markdown())[-1]
    assert 9 < float(middle["long / short, CPU time"]) < 11
    assert float(middle["more host MB"]) < 16
    assert places == [tensor.data_ptr() for tensor in model.state_tensors()]
