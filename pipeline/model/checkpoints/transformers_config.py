"""The `config.json` of checkpoints in the transformers layout, including the codec's."""

from math import prod

from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.config import LanguageModelConfig, MimiConfig

# Old files do not set it, and the current default of transformers would be wrong for them.
DEFAULT_ROPE_THETA = 100000.0
DOWNSAMPLING = 2  # of Mimi's last convolution, in transformers


def language_model_config(settings: Settings, start_token: str) -> LanguageModelConfig:
    """Sizes of the language model.

    The start token has a row of its own, after the text table, if `bos_token_id` is a row outside
    that table: in these files all tables are one, and it is often an audio row.
    """
    _expect_speech_to_text(settings)
    vocab_size = settings.count("vocab_size")
    bos = bos_row(settings)
    own_row = start_token == "bos" and bos >= vocab_size
    start_id = vocab_size if own_row else bos if start_token == "bos" else vocab_size - 1
    return LanguageModelConfig(
        dim=settings.count("hidden_size"),
        num_heads=settings.count("num_attention_heads"),
        num_layers=settings.count("num_hidden_layers"),
        ffn_dim=settings.count("ffn_dim") // 2,
        context=settings.count("sliding_window"),
        rope_max_period=_rope_theta(settings, DEFAULT_ROPE_THETA),
        norm_eps=settings.positive("rms_norm_eps"),
        num_codebooks=settings.count("num_codebooks"),
        audio_card=settings.count("codebook_vocab_size") - 1,
        text_card=vocab_size - 1,
        text_start_id=start_id,
        num_text_rows=vocab_size + own_row,
        padding_id=settings.index("pad_token_id", 3),
    )


def bos_row(settings: Settings) -> int:
    """The row of the joined table that is the text input of the first step."""
    row = settings.index("bos_token_id")
    if row >= num_joined_rows(settings) - 1:
        raise settings.wrong("bos_token_id", f"a row below {num_joined_rows(settings) - 1}")
    return row


def num_joined_rows(settings: Settings) -> int:
    """Rows of the table that joins text, all codebooks and one row of zeros."""
    audio_rows = settings.count("num_codebooks") * settings.count("codebook_vocab_size")
    return settings.count("vocab_size") + audio_rows + 1


def mimi_config(settings: Settings) -> MimiConfig:
    """Sizes of the codec; what its config does not set is as in the published Mimi."""
    _expect_mimi(settings)
    default = PUBLISHED_MIMI
    sample_rate_hz = settings.count("sampling_rate", default.sample_rate_hz)
    ratios = settings.counts("upsampling_ratios", default.encoder_ratios[::-1])[::-1]
    return MimiConfig(
        sample_rate_hz=sample_rate_hz,
        frame_rate_hz=_frame_rate_hz(settings, sample_rate_hz, ratios),
        num_filters=settings.count("num_filters", default.num_filters),
        encoder_ratios=ratios,
        kernel_size=settings.count("kernel_size", default.kernel_size),
        residual_kernel_size=settings.count("residual_kernel_size", default.residual_kernel_size),
        last_kernel_size=settings.count("last_kernel_size", default.last_kernel_size),
        num_residual_layers=settings.count("num_residual_layers", default.num_residual_layers),
        dilation_base=settings.count("dilation_growth_rate", default.dilation_base),
        compress=settings.count("compress", default.compress),
        seanet_dim=settings.count("hidden_size", default.dim),
        dim=settings.count("hidden_size", default.dim),
        num_heads=settings.count("num_attention_heads", default.num_heads),
        num_layers=settings.count("num_hidden_layers", default.num_layers),
        ffn_dim=settings.count("intermediate_size", default.ffn_dim),
        context=settings.count("sliding_window", default.context),
        rope_max_period=_rope_theta(settings, default.rope_max_period),
        norm_eps=settings.positive("norm_eps", default.norm_eps),
        codebook_dim=settings.count("codebook_dim", default.codebook_dim),
        codebook_size=settings.count("codebook_size", default.codebook_size),
        num_codebooks=settings.count("num_quantizers", default.num_codebooks),
    )


def _expect_speech_to_text(settings: Settings) -> None:
    width, num_heads = settings.count("hidden_size"), settings.count("num_attention_heads")
    if width % (2 * num_heads):
        raise settings.wrong(
            "num_attention_heads", f"a number that divides {width} into even head dimensions"
        )
    settings.expect("head_dim", None, width // num_heads)
    settings.expect("num_key_value_heads", None, num_heads)
    settings.expect("hidden_act", "silu")
    settings.expect("tie_word_embeddings", False)
    settings.expect("audio_bos_token_id", None, settings.count("codebook_vocab_size") - 1)
    _expect_plain_rope(settings)


def _expect_mimi(settings: Settings) -> None:
    width = settings.count("hidden_size", PUBLISHED_MIMI.dim)
    num_heads = settings.count("num_attention_heads", PUBLISHED_MIMI.num_heads)
    if width % (2 * num_heads):
        raise settings.wrong(
            "num_attention_heads", f"a number that divides {width} into even head dimensions"
        )
    settings.expect("model_type", None, "mimi")
    settings.expect("audio_channels", 1)
    settings.expect("head_dim", None, width // num_heads)
    settings.expect("num_key_value_heads", None, num_heads)
    settings.expect("hidden_act", "gelu")
    settings.expect("use_causal_conv", True)
    settings.expect("use_conv_shortcut", False)
    settings.expect("pad_mode", "constant")
    settings.expect("num_semantic_quantizers", 1)
    settings.expect("attention_bias", False)
    _expect_plain_rope(settings)


def _expect_plain_rope(settings: Settings) -> None:
    settings.expect("rope_scaling", None)
    settings.section("rope_parameters").expect("rope_type", "default", None)


def _rope_theta(settings: Settings, default: float) -> float:
    """Old files have it at the top level, new ones in `rope_parameters`."""
    if settings.has("rope_theta"):
        return settings.positive("rope_theta")
    return settings.section("rope_parameters").positive("rope_theta", default)


def _frame_rate_hz(settings: Settings, sample_rate_hz: int, ratios: tuple[int, ...]) -> float:
    key = "frame_rate" if settings.has("frame_rate") else "_frame_rate"
    return settings.positive(key, sample_rate_hz / (prod(ratios) * DOWNSAMPLING))
