"""The transformers layout: the codec included, all embeddings in one table, rotary halves apart.

H heads, E width of a head, D width.
"""

import re
from functools import partial

import torch
from torch import Tensor

from nightscribe.model.checkpoints import transformers_config
from nightscribe.model.checkpoints.locations import Location, fetch
from nightscribe.model.checkpoints.model_config import ModelConfig
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


def open_transformers(
    location: Location, settings: Settings, model: ModelConfig
) -> OpenedCheckpoint:
    config = transformers_config.language_model_config(settings, model.start_token)
    codec = transformers_config.mimi_config(settings.section("codec_config"))
    tensors, files = open_weights(location, model.weights or WEIGHTS)
    bos_row = transformers_config.bos_row(settings)
    language_model, mimi = native_tensors(tensors, config, codec, bos_row)
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
