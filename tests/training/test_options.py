"""No option of a training that is a share lies outside 0 and 1."""

import pytest

from nightscribe.training.augmentation import AugmentationConfig
from nightscribe.training.batches import CorruptionConfig
from nightscribe.training.trainer import ScheduleConfig
from nightscribe.training.windows import WindowConfig


@pytest.mark.parametrize("rate", [-0.1, 1.1])
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (AugmentationConfig, "noise_rate"),
        (CorruptionConfig, "window_rate"),
        (WindowConfig, "splice_rate"),
    ],
)
def test_a_share_beyond_its_limits_is_refused_by_name(config, name, rate):
    with pytest.raises(ValueError, match=rf"{name} must be from 0 to 1, got {rate}"):
        config(**{name: rate})
    assert config(**{name: 1.0})


def test_a_training_may_log_evaluate_and_save_at_every_step():
    often = {f"{name}_every_steps": 1 for name in ("log", "evaluate", "save")}
    assert ScheduleConfig(**often).log_every_steps == 1
