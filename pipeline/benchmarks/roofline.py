"""The most that a device's memory and arithmetic allow, from the sizes of a model: no torch.

A step reads the weights once and the valid part of every slot's KV cache; everything else that it
reads or writes is small. Mimi comes on top, as if nothing of it ran beside the steps.
"""

from dataclasses import dataclass

from nightscribe.model.config import LanguageModelConfig, SpeechToTextConfig
from nightscribe.model.memory_budget import mean_entries

# Of Mimi at its published width, counted from its shapes.
CODEC_FLOPS_PER_FRAME = 0.468e9
CODEC_BYTES_PER_FRAME = 11.3e6  # activations, each read or written once
ACTIVATIONS_PER_LAYER = 30  # vectors as wide as the model that are read or written


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRates:
    """Measured rates of a device."""

    copy_bytes_per_s: float
    flops: float  # of matrix products in the precision of the language model
    codec_flops: float  # in the precision of the codec


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """The least time that one frame of one slot takes, part by part."""

    weights_s: float
    cache_s: float
    activations_s: float
    codec_s: float

    @property
    def frame_s(self) -> float:
        return self.weights_s + self.cache_s + self.activations_s + self.codec_s


def limit_times_real_time(
    config: SpeechToTextConfig,
    clip_s: float,
    num_slots: int,
    rates: DeviceRates,
    cache_item_bytes: float = 2,
) -> float:
    """Hours of audio per hour over clips of this length, their prefix and flush not counted."""
    num_steps = 1 + config.num_frames(int(clip_s * config.mimi.sample_rate_hz))
    frame = frame_limits(config, num_steps, num_slots, rates, cache_item_bytes)
    return clip_s / (num_steps * frame.frame_s)


def frame_limits(
    config: SpeechToTextConfig,
    num_steps: int,
    num_slots: int,
    rates: DeviceRates,
    cache_item_bytes: float = 2,
) -> StepLimits:
    """The least time per frame of streams of so many steps."""
    model = config.language_model
    num_weights = num_step_weights(model)
    read_s = 2 * num_weights / num_slots / rates.copy_bytes_per_s
    entry_bytes = 2 * model.num_layers * model.dim * cache_item_bytes
    activation_bytes = 2 * ACTIVATIONS_PER_LAYER * model.dim * model.num_layers
    codec_s = CODEC_FLOPS_PER_FRAME / rates.codec_flops
    return StepLimits(
        weights_s=max(read_s, 2 * num_weights / rates.flops),
        cache_s=mean_entries(num_steps, model.context) * entry_bytes / rates.copy_bytes_per_s,
        activations_s=activation_bytes / rates.copy_bytes_per_s,
        codec_s=codec_s + CODEC_BYTES_PER_FRAME / rates.copy_bytes_per_s,
    )


def num_step_weights(model: LanguageModelConfig) -> int:
    """Weights that a step reads: all but the embedding tables."""
    layer = 4 * model.dim**2 + 3 * model.dim * model.ffn_dim
    return model.num_layers * layer + model.text_card * model.dim
