"""The native layout (moshi, candle, MLX): a file for the language model, one for Mimi.

The first may be quantized, and may have a LoRA adapter beside it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nightscribe.model.checkpoints import native_config
from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.locations import Location, fetch
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.opened import (
    OpenedCheckpoint,
    language_model_shapes,
    mimi_shapes,
    speech_to_text_config,
)
from nightscribe.model.checkpoints.quantized import take_dequantized
from nightscribe.model.checkpoints.settings import Settings
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
# Tensors of the codec's decoder and marks of its training, which are not loaded.
_UNUSED = re.compile(
    r"(decoder|decoder_transformer|upsample)\.|.*(\.output_proj\.|\._initialized$)"
)


def open_native(location: Location, settings: Settings, model: ModelConfig) -> OpenedCheckpoint:
    codec = _mimi_config(location, settings)
    file_name = model.weights or settings.text("moshi_name", "model.safetensors")
    tensors, files = open_weights(location, file_name)
    tensors = tensors.renamed(native_name)
    config = _with_vad_heads(native_config.language_model_config(settings), tensors)
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


def _mimi_config(location: Location, settings: Settings) -> MimiConfig:
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
