"""What opening any layout yields: a config, readers of native tensors, and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.settings import CheckpointError, Settings
from nightscribe.model.checkpoints.stored_tensors import Read, Shape
from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi
from nightscribe.model.native_tensors import NativeTensor, without_memory

DELAY = "audio_delay_seconds"
SILENCE_PREFIX = "audio_silence_prefix_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCheckpoint:
    """One checkpoint, its headers checked and none of its weights read."""

    config: SpeechToTextConfig
    language_model: Mapping[str, Read]
    mimi: Mapping[str, Read]
    tokenizer: Path
    files: tuple[Path, ...]


def speech_to_text_config(
    timing: Settings, model: ModelConfig, mimi: MimiConfig, language_model: LanguageModelConfig
) -> SpeechToTextConfig:
    """Join the parts; delays set in `model` override those of the checkpoint."""
    if mimi.codebook_size != language_model.audio_card:
        raise CheckpointError(
            f"{timing.origin}: the codec has {mimi.codebook_size} entries a codebook, "
            f"the language model takes {language_model.audio_card}"
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
        raise CheckpointError(f"{timing.origin} does not set {DELAY!r}: set model.delay_steps")
    return model.delay_steps / mimi.frame_rate_hz


def _silence_prefix_s(timing: Settings, model: ModelConfig) -> float:
    if model.silence_prefix_s is not None:
        return model.silence_prefix_s
    return timing.seconds(SILENCE_PREFIX, 0.0)


def language_model_shapes(config: LanguageModelConfig) -> dict[str, Shape]:
    """The native tensors that a config asks for, and their shapes."""
    with without_memory():
        return _shapes(LanguageModel(config).native_tensors())


def mimi_shapes(config: MimiConfig) -> dict[str, Shape]:
    """Mimi's encoder side; the decoder is not loaded."""
    with without_memory():
        return _shapes(Mimi(config).native_tensors())


def _shapes(places: Mapping[str, NativeTensor]) -> dict[str, Shape]:
    return {name: tuple(place.shape) for name, place in places.items()}
