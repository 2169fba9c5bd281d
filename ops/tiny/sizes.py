"""Sizes of the small model: under 10 MB in bf16, the language model's matrices in int8."""

from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig

DELAY_FRAMES = 12  # 0.96 s: the longest words are over before they are written
WIDTH = 192
NUM_TEXT_TOKENS = 256

MIMI = MimiConfig(
    sample_rate_hz=24000,
    frame_rate_hz=12.5,
    num_filters=16,
    encoder_ratios=(4, 5, 6, 8),
    kernel_size=7,
    residual_kernel_size=3,
    last_kernel_size=3,
    num_residual_layers=1,
    dilation_base=2,
    compress=2,
    seanet_dim=WIDTH,
    dim=WIDTH,
    num_heads=3,
    num_layers=4,
    ffn_dim=512,
    context=100,
    rope_max_period=10000.0,
    norm_eps=1e-5,
    codebook_dim=64,
    codebook_size=256,
    num_codebooks=12,
)
LANGUAGE_MODEL = LanguageModelConfig(
    dim=WIDTH,
    num_heads=3,
    num_layers=6,
    ffn_dim=528,
    context=100,
    rope_max_period=100000.0,
    norm_eps=1e-8,
    num_codebooks=MIMI.num_codebooks,
    audio_card=MIMI.codebook_size,
    text_card=NUM_TEXT_TOKENS,
    text_start_id=NUM_TEXT_TOKENS,
    num_text_rows=NUM_TEXT_TOKENS + 1,
    num_vad_heads=4,
    vad_head_dim=6,
)
CONFIG = SpeechToTextConfig(
    mimi=MIMI,
    language_model=LANGUAGE_MODEL,
    delay_s=DELAY_FRAMES / MIMI.frame_rate_hz,
    silence_prefix_s=0.0,
)
