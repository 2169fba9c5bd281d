"""What opening any layout yields: a config, native tensors still to be read, and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.checkpoints.stored import Read
from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig

DELAY = "audio_delay_seconds"
SILENCE_PREFIX = "audio_silence_prefix_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One checkpoint, its headers checked and none of its numbers read."""

    config: SpeechToTextConfig
    language_model: Mapping[str, Read]
    mimi: Mapping[str, Read]
    tokenizer: Path
    files: tuple[Path, ...]


def speech_to_text_config(
    timing: Settings, model: ModelConfig, mimi: MimiConfig, language_model: LanguageModelConfig
) -> SpeechToTextConfig:
    """Join the parts; what `model` says of delays goes before what the checkpoint says."""
    if mimi.codebook_size != language_model.audio_card:
        raise CheckpointError(
            f"{timing.origin}: the codec has {mimi.codebook_size} entries a codebook, "
            f"the language model hears {language_model.audio_card}"
        )
    return SpeechToTextConfig(
        mimi=mimi,
        language_model=language_model,
        delay_s=_delay_s(timing, model, mimi),
        silence_prefix_s=_silence_prefix_s(timing, model),
        known_delay_steps=model.delay_steps,
    )


def _delay_s(timing: Settings, model: ModelConfig, mimi: MimiConfig) -> float:
    if model.delay_s is not None:
        return model.delay_s
    if timing.has(DELAY):
        return timing.seconds(DELAY)
    if model.delay_steps is None:
        raise CheckpointError(f"{timing.origin} does not say {DELAY!r}: set model.delay_steps")
    return model.delay_steps / mimi.frame_rate_hz


def _silence_prefix_s(timing: Settings, model: ModelConfig) -> float:
    if model.silence_prefix_s is not None:
        return model.silence_prefix_s
    return timing.seconds(SILENCE_PREFIX, 0.0)
