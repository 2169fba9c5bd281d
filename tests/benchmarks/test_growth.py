"""A recording ten times as long takes ten times as long, and no more memory."""

import numpy as np
import pytest
import torch

from pipeline.benchmarks.growth import EndlessNoise, listen, measure_growth
from pipeline.benchmarks.random_weights import random_speech
from pipeline.benchmarks.sizes import config_of
from pipeline.model.stepping import SteppingModel
from tests.benchmarks.test_tables import parsed
from tests.fakes import HashingModel

CPU = torch.device("cpu")


def test_endless_noise_repeats_itself():
    sound = EndlessNoise(np.arange(7, dtype=np.int16), 40)
    assert len(sound) == 40
    assert sound[5:16].tolist() == [5, 6, 0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert len(sound[35:60]) == 5


def test_the_table_compares_with_the_short_one():
    rows = parsed(measure_growth(HashingModel(2), 50, 3, CPU).markdown())
    assert [row["frames"] for row in rows] == ["50", "150"]
    assert float(rows[0]["times the short one's"]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_times_as_long_takes_ten_times_as_long_and_no_more_memory():
    torch.set_num_threads(1)
    speech = random_speech(config_of("toy"), CPU, torch.float32)
    model = SteppingModel(speech, 1, 25)
    places = [tensor.data_ptr() for tensor in model.memory()]
    listen(model, 2_000, CPU)
    short, long = (listen(model, num_frames, CPU) for num_frames in (3_000, 30_000))
    assert 9 < long.spent.processor_s / short.spent.processor_s < 11
    assert long.host_bytes < 16 << 20
    assert places == [tensor.data_ptr() for tensor in model.memory()]
