"""Sizes to measure: the two published models, a small one and a toy."""

from dataclasses import replace

from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI, RMS_NORM_EPS
from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig

SIZES = ("toy", "small", "1b", "2.6b")
PUBLISHED_NAMES = {"1b": "stt-1b-en_fr", "2.6b": "stt-2.6b-en"}

TOY_MIMI = replace(
    PUBLISHED_MIMI,
    num_filters=4,
    seanet_dim=32,
    dim=32,
    num_heads=4,
    num_layers=2,
    ffn_dim=64,
    context=20,
    codebook_dim=8,
    codebook_size=64,
    num_codebooks=4,
)
_LANGUAGE_MODELS = {
    "toy": {"dim": 32, "num_heads": 2, "num_layers": 2, "ffn_dim": 64, "context": 24},
    "small": {"dim": 256, "num_heads": 4, "num_layers": 4, "ffn_dim": 704, "context": 64},
    "1b": {"dim": 2048, "num_heads": 16, "num_layers": 16, "ffn_dim": 5632, "context": 750},
    "2.6b": {"dim": 2048, "num_heads": 32, "num_layers": 48, "ffn_dim": 5632, "context": 375},
}
_TEXT_CARDS = {"toy": 100, "small": 8000, "1b": 8000, "2.6b": 4000}


def config_of(size: str, num_layers: int = 0) -> SpeechToTextConfig:
    """A size, if need be with fewer layers than it has."""
    if size not in SIZES:
        raise ValueError(f"there is no size {size!r}; sizes are {', '.join(SIZES)}")
    mimi = TOY_MIMI if size == "toy" else PUBLISHED_MIMI
    is_largest = size == "2.6b"
    return SpeechToTextConfig(
        mimi=mimi,
        language_model=_language_model(size, num_layers, mimi),
        delay_s=2.5 if is_largest else 0.5,
        silence_prefix_s=1.0 if is_largest else 0.0,
    )


def _language_model(size: str, num_layers: int, mimi: MimiConfig) -> LanguageModelConfig:
    sizes = _LANGUAGE_MODELS[size]
    if num_layers:
        sizes = sizes | {"num_layers": num_layers}
    text_card = _TEXT_CARDS[size]
    return LanguageModelConfig(
        **sizes,
        rope_max_period=1e5,
        norm_eps=RMS_NORM_EPS,
        num_codebooks=mimi.num_codebooks,
        audio_card=mimi.codebook_size,
        text_card=text_card,
        text_start_id=text_card,
        num_text_rows=text_card + 1,
    )
