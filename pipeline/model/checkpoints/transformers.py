"""The transformers layout: the codec included, all embeddings in one table, rotary halves apart.

Its tensors under their native names, and its `config.json`.

H heads, E width of a head, D width.
"""

import re
from functools import partial
from math import prod

import torch
from torch import Tensor

from nightscribe.model.checkpoints.locations import Location, fetch
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI
from nightscribe.model.checkpoints.opened import (
    OpenedCheckpoint,
    language_model_shapes,
    mimi_shapes,
    speech_to_text_config,
)
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.checkpoints.stored_tensors import (
    Read,
    Shape,
    StoredTensor,
    StoredTensors,
)
from nightscribe.model.checkpoints.weight_files import open_weights
from nightscribe.model.config import LanguageModelConfig, MimiConfig

MODEL_TYPE = "kyutai_speech_to_text"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
JOINED_TABLE = "model.embed_tokens.embed_tokens.weight"
CODEC = "codec_model."
# Files of the processor, new and old, which set the model's delay.
PROCESSORS = (("processor_config.json", "feature_extractor"), ("preprocessor_config.json", None))

Renames = tuple[tuple[re.Pattern[str], str], ...]

# Other names of the codec's tensors, in other versions.
_ALIASES: Renames = (
    (re.compile(r"^codec_model\.encoder\.encoder_seanet\."), "codec_model.encoder."),
    (re.compile(r"^codec_model\.encoder\.(encoder_transformer|downsample)\."), r"codec_model.\1."),
    (re.compile(r"\.codebook\.cluster_size$"), ".codebook.cluster_usage"),
    (re.compile(r"\.codebook\.embed_avg$"), ".codebook.embed_sum"),
    (re.compile(r"\.codebook\.inited$"), ".codebook.initialized"),
)
# Tensors of the codec's decoder and marks of its training, which are not loaded.
_UNUSED = re.compile(
    r"codec_model\.((decoder|decoder_transformer|upsample)\.|.*(\.output_proj\.|\.initialized$))"
)
# Native names of the codec to the layout's; names that stay the same are not listed.
_CODEC_NAMES: Renames = (
    (re.compile(r"^encoder\.model\."), "encoder.layers."),
    (re.compile(r"\.conv\.conv\."), ".conv."),
    (re.compile(r"^downsample\.conv\.conv\."), "downsample.conv."),
    (re.compile(r"^encoder_transformer\.transformer\."), "encoder_transformer."),
    (re.compile(r"\.rvq_first\."), ".semantic_residual_vector_quantizer."),
    (re.compile(r"\.rvq_rest\."), ".acoustic_residual_vector_quantizer."),
    (re.compile(r"\.vq\.layers\.(\d+)\._codebook\."), r".layers.\1.codebook."),
    (re.compile(r"\.embedding_sum$"), ".embed_sum"),
    (re.compile(r"\.out_proj\."), ".o_proj."),
    (re.compile(r"\.norm1\."), ".input_layernorm."),
    (re.compile(r"\.norm2\."), ".post_attention_layernorm."),
    (re.compile(r"\.linear([12])\."), r".mlp.fc\1."),
    (re.compile(r"\.layer_scale_1\."), ".self_attn_layer_scale."),
    (re.compile(r"\.layer_scale_2\."), ".mlp_layer_scale."),
)
_LANGUAGE_MODEL_NAMES: Renames = (
    (re.compile(r"^transformer\."), "model."),
    (re.compile(r"\.out_proj\.weight$"), ".o_proj.linear.weight"),
    (re.compile(r"\.gating\.linear_in\."), ".mlp.fc1."),
    (re.compile(r"\.gating\.linear_out\."), ".mlp.fc2."),
    (re.compile(r"\.norm1\.alpha$"), ".input_layernorm.weight"),
    (re.compile(r"\.norm2\.alpha$"), ".post_attention_layernorm.weight"),
    (re.compile(r"^out_norm\.alpha$"), "model.norm.weight"),
)
# Old files do not set it, and the current default of transformers would be wrong for them.
DEFAULT_ROPE_THETA = 100000.0
DOWNSAMPLING = 2  # of Mimi's last convolution, in transformers


def open_transformers(
    location: Location, settings: Settings, model: ModelConfig
) -> OpenedCheckpoint:
    config = language_model_config(settings, model.start_token)
    codec = mimi_config(settings.section("codec_config"))
    tensors, files = open_weights(location, model.weights or WEIGHTS)
    language_model, mimi = native_tensors(tensors, config, codec, bos_row(settings))
    tokenizer = fetch(location, TOKENIZER)
    return OpenedCheckpoint(
        config=speech_to_text_config(_timing(location, settings), model, codec, config),
        language_model=language_model,
        mimi=mimi,
        tokenizer=tokenizer,
        files=(*files, tokenizer),
    )


def native_tensors(
    tensors: StoredTensors, config: LanguageModelConfig, codec: MimiConfig, bos_row: int
) -> tuple[dict[str, Read], dict[str, Read]]:
    """The language model's tensors and the codec's under their native names."""
    tensors = tensors.renamed(partial(_renamed, _ALIASES))
    language_model = _language_model(tensors, config, bos_row)
    mimi = _mimi(tensors, codec)
    tensors.refuse_rest(_UNUSED)
    return language_model, mimi


def _language_model(
    tensors: StoredTensors, config: LanguageModelConfig, bos_row: int
) -> dict[str, Read]:
    shapes = language_model_shapes(config)
    reads = _tables(tensors, config, bos_row)
    head = tensors.take("lm_head.weight", (config.text_card + 1, config.dim))
    # The last row of the head is all zeros: a token that was never trained.
    reads["text_linear.weight"] = partial(head.read_rows, 0, config.text_card)
    for name in shapes.keys() - reads.keys():
        hf_name = _renamed(_LANGUAGE_MODEL_NAMES, name)
        if name.endswith(".in_proj_weight"):
            projections = hf_name.removesuffix("in_proj_weight") + "{}_proj.linear.weight"
            reads[name] = _joined_projections(tensors, projections, config.dim, config.num_heads)
        else:
            reads[name] = _reshaped(tensors, hf_name, shapes[name])
    return reads


def _tables(tensors: StoredTensors, config: LanguageModelConfig, bos_row: int) -> dict[str, Read]:
    """The joined table: the text's rows, each codebook's, one of zeros."""
    num_text, num_audio = config.text_card + 1, config.audio_card + 1
    num_rows = num_text + config.num_codebooks * num_audio + 1
    table = tensors.take(JOINED_TABLE, (num_rows, config.dim))
    reads: dict[str, Read] = {"text_emb.weight": partial(table.read_rows, 0, num_text)}
    if config.num_text_rows > num_text:
        reads["text_emb.weight"] = partial(_with_start_row, table, num_text, bos_row)
    for index in range(config.num_codebooks):
        first = num_text + index * num_audio
        reads[f"emb.{index}.weight"] = partial(table.read_rows, first, first + num_audio)
    return reads


def _with_start_row(table: StoredTensor, num_text: int, bos_row: int) -> Tensor:
    rows = (table.read_rows(0, num_text), table.read_rows(bos_row, bos_row + 1))
    return torch.cat(rows)


def _mimi(tensors: StoredTensors, config: MimiConfig) -> dict[str, Read]:
    return {
        name: _codec_tensor(tensors, name, shape, config)
        for name, shape in mimi_shapes(config).items()
    }


def _codec_tensor(tensors: StoredTensors, name: str, shape: Shape, config: MimiConfig) -> Read:
    hf_name = CODEC + _renamed(_CODEC_NAMES, name)
    if not name.endswith(".in_proj_weight"):
        return tensors.take(hf_name, shape).read
    projections = hf_name.removesuffix("in_proj_weight") + "{}_proj.weight"
    return _joined_projections(tensors, projections, config.dim, config.num_heads)


def _reshaped(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    """Norms are stored without the leading dimensions of 1 of the native shape."""
    stored = tensors.take(name, shape[-1:] if shape[:-1] == (1, 1) else shape)
    return lambda: stored.read().view(shape)


def _joined_projections(tensors: StoredTensors, names: str, width: int, num_heads: int) -> Read:
    """Queries, keys and values in one."""
    q, k, v = (tensors.take(names.format(part), (width, width)) for part in "qkv")

    def read() -> Tensor:
        rotated = (_interleaved(part.read(), num_heads) for part in (q, k))
        return torch.cat((*rotated, v.read()))

    return read


def _interleaved(halves_DD: Tensor, num_heads: int) -> Tensor:
    """Interleave the rows of a head, which holds all first elements of the rotated pairs first."""
    width = halves_DD.shape[1]
    return halves_DD.view(num_heads, 2, -1, width).transpose(1, 2).reshape(-1, width)


def _timing(location: Location, settings: Settings) -> Settings:
    """The config that sets the delay: the processor's, whatever its file name."""
    for file_name, section in PROCESSORS:
        path = location.find(file_name)
        if path is not None:
            found = Settings.read(path)
            return found.section(section) if section else found
    return settings


def _renamed(renames: Renames, name: str) -> str:
    for pattern, replacement in renames:
        name = pattern.sub(replacement, name)
    return name


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
