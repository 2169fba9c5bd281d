"""Sizes of the published checkpoints, for arithmetic before any of them is at hand."""

from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI, RMS_NORM_EPS
from nightscribe.model.config import LanguageModelConfig, SpeechToTextConfig


def _language_model(
    num_layers: int, num_heads: int, context: int, text_card: int
) -> LanguageModelConfig:
    return LanguageModelConfig(
        dim=2048,
        num_heads=num_heads,
        num_layers=num_layers,
        ffn_dim=5632,
        context=context,
        rope_max_period=100000.0,
        norm_eps=RMS_NORM_EPS,
        num_codebooks=32,
        audio_card=2048,
        text_card=text_card,
        text_start_id=text_card,
        num_text_rows=text_card + 1,
    )


PUBLISHED = {
    "stt-1b-en_fr": SpeechToTextConfig(
        mimi=PUBLISHED_MIMI,
        language_model=_language_model(16, 16, 750, 8000),
        delay_s=0.5,
        silence_prefix_s=0.0,
    ),
    "stt-2.6b-en": SpeechToTextConfig(
        mimi=PUBLISHED_MIMI,
        language_model=_language_model(48, 32, 375, 4000),
        delay_s=2.5,
        silence_prefix_s=1.0,
    ),
}
