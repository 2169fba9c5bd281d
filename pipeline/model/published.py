"""Sizes of the published checkpoints, for arithmetic before any of them is at hand."""

from pipeline.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig

_MIMI = MimiConfig(
    sample_rate_hz=24000,
    frame_rate_hz=12.5,
    num_filters=64,
    encoder_ratios=(4, 5, 6, 8),
    kernel_size=7,
    residual_kernel_size=3,
    last_kernel_size=3,
    num_residual_layers=1,
    dilation_base=2,
    compress=2,
    seanet_dim=512,
    dim=512,
    num_heads=8,
    num_layers=8,
    ffn_dim=2048,
    context=250,
    rope_max_period=10000.0,
    norm_eps=1e-5,
    codebook_dim=256,
    codebook_size=2048,
    num_codebooks=32,
)


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
        norm_eps=1e-8,
        num_codebooks=32,
        audio_card=2048,
        text_card=text_card,
        text_start_id=text_card,
        num_text_rows=text_card + 1,
    )


PUBLISHED = {
    "stt-1b-en_fr": SpeechToTextConfig(
        mimi=_MIMI,
        language_model=_language_model(16, 16, 750, 8000),
        delay_s=0.5,
        silence_prefix_s=0.0,
    ),
    "stt-2.6b-en": SpeechToTextConfig(
        mimi=_MIMI,
        language_model=_language_model(48, 32, 375, 4000),
        delay_s=2.5,
        silence_prefix_s=1.0,
    ),
}
