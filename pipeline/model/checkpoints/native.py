"""The native layout (moshi, candle, MLX): a file for the language model, one for Mimi.

The first may be quantized, and may have a LoRA adapter beside it.

O outputs, I inputs, G groups of inputs that share a scale, P inputs packed in one 32-bit word.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from nightscribe.model.checkpoints import native_config
from nightscribe.model.checkpoints.locations import Location, fetch
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.opened import (
    OpenedCheckpoint,
    language_model_shapes,
    mimi_shapes,
    speech_to_text_config,
)
from nightscribe.model.checkpoints.settings import CheckpointError, Settings
from nightscribe.model.checkpoints.stored_tensors import Read, Shape, StoredTensors
from nightscribe.model.checkpoints.weight_files import open_weights
from nightscribe.model.config import LanguageModelConfig, MimiConfig

# Rank and scaling of adapters whose config does not set them.
LORA_RANK, LORA_SCALING = 128, 2.0
# Other names of the same tensors, in other versions of the reference and in MLX.
_ALIASES = (
    (re.compile(r"^audio_embs\."), "emb."),
    (re.compile(r"^(transformer\.layers\.\d+\.norm[12])\.weight$"), r"\1.alpha"),
    (re.compile(r"^out_norm\.weight$"), "out_norm.alpha"),
    (re.compile(r"\.in_projs\.0\."), ".in_proj."),
    (re.compile(r"\.out_projs\.0\."), ".out_proj."),
    (re.compile(r"\.in_proj\.weight"), ".in_proj_weight"),
)
# The names of CrispASR, which writes language model and codec into one GGUF file.
_CRISPASR_PREFIX = re.compile(r"^(lm|mimi)\.")
_CRISPASR_ALIASES = (
    ("enc_tfm.", "encoder_transformer.transformer."),
    ("attn.qkv_w", "self_attn.in_proj_weight"),
    ("attn.out_w", "self_attn.out_proj.weight"),
    (".ls1", ".layer_scale_1.scale"),
    (".ls2", ".layer_scale_2.scale"),
    ("ffn_up_w", "linear1.weight"),
    ("ffn_down_w", "linear2.weight"),
    ("gating_in_w", "gating.linear_in.weight"),
    ("gating_out_w", "gating.linear_out.weight"),
    ("blk1.", "block.1.conv.conv."),
    ("blk3.", "block.3.conv.conv."),
    ("conv3.", "conv.conv.conv."),
    ("conv2.", "conv.conv."),
)
# Tensors of the codec's decoder and marks of its training, which are not loaded.
_UNUSED = re.compile(
    r"(decoder|decoder_transformer|upsample)\.|.*(\.output_proj\.|\._initialized$)"
)
INT8_MAX = 127.0
WORD_BITS = 32


def open_native(location: Location, settings: Settings, model: ModelConfig) -> OpenedCheckpoint:
    codec = mimi_config_of(location, settings)
    file_name = model.weights or settings.text("moshi_name", "model.safetensors")
    stored, files = open_weights(location, file_name)
    tensors, codec_tensors = stored, None
    codec_files: tuple[Path, ...] = ()
    if any(name.startswith("mimi.") for name in stored.names()):
        tensors, codec_tensors = _crispasr_part(stored, "lm"), _crispasr_part(stored, "mimi")
    tensors = tensors.renamed(native_name)
    config = _with_vad_heads(native_config.language_model_config(settings), tensors)
    if codec_tensors is None:
        codec_tensors, codec_files = open_weights(location, settings.text("mimi_name"))
    tokenizer = fetch(location, settings.text("tokenizer_name"))
    adapter, adapter_files = _adapter(location, settings, model)
    return OpenedCheckpoint(
        config=speech_to_text_config(settings.section("stt_config"), model, codec, config),
        language_model=_language_model(tensors, config, adapter),
        mimi=_read(codec_tensors.renamed(native_name), mimi_shapes(codec), _UNUSED),
        tokenizer=tokenizer,
        files=(*files, *codec_files, *adapter_files, tokenizer),
    )


def native_name(name: str) -> str:
    for alias, canonical in _ALIASES:
        name = alias.sub(canonical, name)
    return name


def _crispasr_part(stored: StoredTensors, part: str) -> StoredTensors:
    """The language model or the codec of a file that holds both."""

    def native(name: str) -> str:
        name = _CRISPASR_PREFIX.sub("", name)
        for short, full in _CRISPASR_ALIASES:
            name = name.replace(short, full)
        return name

    return stored.those_with(f"{part}.").renamed(native)


def mimi_config_of(location: Location, settings: Settings) -> MimiConfig:
    if not settings.has("mimi_config_name"):
        return native_config.PUBLISHED_MIMI
    path = fetch(location, settings.text("mimi_config_name"))
    return native_config.mimi_config(Settings.read(path))


def _with_vad_heads(config: LanguageModelConfig, tensors: StoredTensors) -> LanguageModelConfig:
    """The VAD heads in the file, even if the config has another number."""
    heads = [name for name in tensors.names() if re.fullmatch(r"extra_heads\.\d+\.weight", name)]
    if not heads:
        return config
    return replace(config, num_vad_heads=len(heads), vad_head_dim=tensors.shape(heads[0])[0])


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """For some tensors two narrow matrices, for others (embeddings) the whole new tensor."""

    tensors: StoredTensors
    rank: int
    scaling: float

    def merged(self, reads: Mapping[str, Read], shapes: Mapping[str, Shape]) -> dict[str, Read]:
        """Every tensor with the adapter merged; refuses an adapter for another model."""
        result = {name: self._merged(name, read, shapes[name]) for name, read in reads.items()}
        self.tensors.refuse_rest()
        if all(result[name] is reads[name] for name in reads):
            raise CheckpointError(f"{self.tensors.path} holds no adapter")
        return result

    def _merged(self, name: str, read: Read, shape: Shape) -> Read:
        if name in self.tensors:
            return self.tensors.take(name, shape).read
        stem = name.removesuffix("_weight").removesuffix(".weight")
        down_name, up_name = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        if down_name not in self.tensors and up_name not in self.tensors:
            return read
        down = self.tensors.take(down_name, (self.rank, shape[1]))
        up = self.tensors.take(up_name, (shape[0], self.rank))

        def read_merged() -> Tensor:
            delta = up.read().float() @ down.read().float()
            return delta.mul_(self.scaling).add_(read())

        return read_merged


def _language_model(
    tensors: StoredTensors, config: LanguageModelConfig, adapter: LoraAdapter | None
) -> dict[str, Read]:
    shapes = language_model_shapes(config)
    reads = _read(tensors, shapes)
    return adapter.merged(reads, shapes) if adapter else reads


def _read(
    tensors: StoredTensors, shapes: Mapping[str, Shape], unused: re.Pattern[str] | None = None
) -> dict[str, Read]:
    reads = {name: take_dequantized(tensors, name, shape) for name, shape in shapes.items()}
    tensors.refuse_rest(unused)
    return reads


def _codebook(tensors: StoredTensors, name: str, shape: Shape) -> Read | None:
    """A part of a codebook that is stored divided already: as the sum of a usage of 1."""
    stem, _, part = name.rpartition(".")
    if name in tensors or f"{stem}.embedding" not in tensors:
        return None
    if part == "cluster_usage":
        return lambda: torch.ones(shape)
    return tensors.take(f"{stem}.embedding", shape).read


def _adapter(
    location: Location, settings: Settings, model: ModelConfig
) -> tuple[LoraAdapter | None, tuple[Path, ...]]:
    if model.lora is None and not settings.has("lora_name"):
        return None, ()
    tensors, files = open_weights(location, model.lora or settings.text("lora_name"))
    adapter = LoraAdapter(
        tensors.renamed(native_name),
        rank=settings.count("lora_rank", LORA_RANK),
        scaling=settings.positive("lora_scaling", LORA_SCALING),
    )
    return adapter, files


def take_dequantized(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    """One tensor of this shape, however the file stores it."""
    if (codebook := _codebook(tensors, name, shape)) is not None:
        return codebook
    stem = name.removesuffix("_weight").removesuffix(".weight")
    if f"{name}_scb" in tensors:
        return _int8_rows(tensors, name, shape)
    if f"{stem}.scales" in tensors:
        return _packed_groups(tensors, name, stem, shape)
    return _plain(tensors, name, shape)


def _plain(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    # MLX and some GGUF writers store the norms' scales without the leading dimensions of 1.
    if shape[:-1] == (1, 1) and name in tensors and tensors.shape(name) == shape[-1:]:
        stored = tensors.take(name, shape[-1:])
        return lambda: stored.read().view(shape)
    return tensors.take(name, shape).read


def _int8_rows(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    """bitsandbytes: a row is its integers times its largest magnitude / 127."""
    integers = tensors.take_raw(name, shape)
    largest = tensors.take(f"{name}_scb", shape[:1])

    def read() -> Tensor:
        return integers.read().float() * (largest.read().float() / INT8_MAX)[:, None]

    return read


def _packed_groups(tensors: StoredTensors, name: str, stem: str, shape: Shape) -> Read:
    """MLX: groups of inputs share a scale and a bias; the integers fill 32-bit words."""
    num_outputs, num_inputs = shape
    num_words = tensors.shape(name)[-1]
    bits = num_words * WORD_BITS // num_inputs
    if bits not in (2, 4, 8) or bits * num_inputs != num_words * WORD_BITS:
        raise CheckpointError(
            f"{tensors.path}: tensor {name!r} packs {num_inputs} inputs in {num_words} words of "
            f"{WORD_BITS} bits; 2, 4 and 8 bits an input are supported"
        )
    words = tensors.take_raw(name, (num_outputs, num_words))
    num_groups = tensors.shape(f"{stem}.scales")[-1]
    if num_inputs % num_groups:
        raise CheckpointError(
            f"{tensors.path}: tensor {name!r} has {num_groups} groups for {num_inputs} inputs"
        )
    scales = tensors.take(f"{stem}.scales", (num_outputs, num_groups))
    biases = tensors.take(f"{stem}.biases", (num_outputs, num_groups))

    def read() -> Tensor:
        integers_OGI = _unpacked(words.read(), bits).view(num_outputs, num_groups, -1)
        values_OGI = integers_OGI.float() * scales.read().float()[..., None]
        return values_OGI.add_(biases.read().float()[..., None]).view(shape)

    return read


def _unpacked(words_OW: Tensor, bits: int) -> Tensor:
    """The first input is in the lowest bits of its word."""
    bytes_OB = words_OW.contiguous().view(torch.uint8)
    shifts_P = torch.arange(0, 8, bits, dtype=torch.uint8)
    return (bytes_OB[..., None] >> shifts_P) & (2**bits - 1)
