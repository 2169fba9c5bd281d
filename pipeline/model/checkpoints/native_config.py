"""Configurations of native checkpoints: `config.json`, Mimi's where named, and published sizes."""

from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig

# Published native checkpoints come without a config of the codec
# (`mimi-pytorch-e351c8d8@125.safetensors`). One with another codec sets `mimi_config_name`.
PUBLISHED_MIMI = MimiConfig(
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
RMS_NORM_EPS = 1e-8  # of "rms_norm_f32"
LAYER_NORM_EPS = 1e-5  # of "layer_norm"


def language_model_config(settings: Settings) -> LanguageModelConfig:
    """Sizes of the language model; refuses what this architecture does not have."""
    _expect_speech_to_text(settings)
    text_card = settings.count("text_card")
    settings.expect("text_card_out", None, text_card)
    return LanguageModelConfig(
        dim=settings.count("dim"),
        num_heads=num_heads(settings, "dim"),
        num_layers=settings.count("num_layers"),
        ffn_dim=ffn_dim(settings),
        context=settings.count("context"),
        rope_max_period=settings.positive("max_period"),
        norm_eps=RMS_NORM_EPS,
        num_codebooks=settings.count("n_q"),
        audio_card=settings.count("card"),
        text_card=text_card,
        text_start_id=text_card,
        num_text_rows=text_card + 1,
        num_vad_heads=settings.index("extra_heads_num_heads", 0),
        vad_head_dim=settings.index("extra_heads_dim", 6),
        padding_id=settings.index("existing_text_padding_id", 3),
        end_of_padding_id=settings.index("existing_text_end_padding_id", 0),
    )


def mimi_config(settings: Settings) -> MimiConfig:
    """Sizes of a codec that comes with its own config."""
    seanet, transformer = settings.section("seanet"), settings.section("transformer")
    quantizer = settings.section("quantizer")
    _expect_mimi(settings, seanet, transformer, quantizer)
    return MimiConfig(
        sample_rate_hz=settings.count("sample_rate"),
        frame_rate_hz=settings.positive("frame_rate"),
        num_filters=seanet.count("n_filters"),
        encoder_ratios=seanet.counts("ratios")[::-1],
        kernel_size=seanet.count("kernel_size"),
        residual_kernel_size=seanet.count("residual_kernel_size"),
        last_kernel_size=seanet.count("last_kernel_size"),
        num_residual_layers=seanet.count("n_residual_layers"),
        dilation_base=seanet.count("dilation_base"),
        compress=seanet.count("compress"),
        seanet_dim=seanet.count("dimension"),
        dim=transformer.count("d_model"),
        num_heads=num_heads(transformer, "d_model"),
        num_layers=transformer.count("num_layers"),
        ffn_dim=transformer.count("dim_feedforward"),
        context=transformer.count("context"),
        rope_max_period=transformer.positive("max_period"),
        norm_eps=LAYER_NORM_EPS,
        codebook_dim=quantizer.count("dimension"),
        codebook_size=quantizer.count("bins"),
        num_codebooks=quantizer.count("n_q"),
    )


def _expect_speech_to_text(settings: Settings) -> None:
    settings.expect("model_type", None, "stt")
    settings.expect("dep_q", 0)
    settings.expect("norm", "rms_norm_f32")
    settings.expect("gating", "silu")
    settings.expect("positional_embedding", "rope")
    settings.expect("causal", True)
    settings.expect("layer_scale", None)
    settings.expect("cross_attention", False, None)
    settings.expect("conditioners", {}, None)
    settings.expect("demux_second_stream", False, None)
    settings.expect("delays", None, [0] * (settings.count("n_q") + 1))


def _expect_mimi(
    settings: Settings, seanet: Settings, transformer: Settings, quantizer: Settings
) -> None:
    width = transformer.count("d_model")
    settings.expect("channels", 1)
    seanet.expect("causal", True)
    seanet.expect("activation", "ELU")
    seanet.expect("norm", "none")
    seanet.expect("pad_mode", "constant")
    seanet.expect("true_skip", True)
    seanet.expect("dimension", width)
    transformer.expect("causal", True)
    transformer.expect("gating", "none")
    transformer.expect("norm", "layer_norm")
    transformer.expect("positional_embedding", "rope")
    transformer.expect("input_dimension", width)
    quantizer.expect("input_dimension", width)


def num_heads(settings: Settings, width_key: str) -> int:
    width, num_heads = settings.count(width_key), settings.count("num_heads")
    if width % (2 * num_heads):
        raise settings.wrong(
            "num_heads", f"a number that divides {width} into even head dimensions"
        )
    return num_heads


def ffn_dim(settings: Settings) -> int:
    dim = settings.count("dim")
    return gated_dim(int(settings.positive("hidden_scale") * dim), dim)


def gated_dim(outer: int, dim: int) -> int:
    """The hidden width of a gated feed-forward that is as large as a plain one of `outer`."""
    # The reference rounds differently for a hidden scale of 4.
    return 21 * dim // 8 if outer == 4 * dim else 2 * outer // 3


def _published_language_model(
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


# For arithmetic before any checkpoint is at hand.
PUBLISHED = {
    "stt-1b-en_fr": SpeechToTextConfig(
        mimi=PUBLISHED_MIMI,
        language_model=_published_language_model(16, 16, 750, 8000),
        delay_s=0.5,
        silence_prefix_s=0.0,
    ),
    "stt-2.6b-en": SpeechToTextConfig(
        mimi=PUBLISHED_MIMI,
        language_model=_published_language_model(48, 32, 375, 4000),
        delay_s=2.5,
        silence_prefix_s=1.0,
    ),
}
