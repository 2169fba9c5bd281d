"""Writes the weights of one model in every layout that users have.

The transformers layout is written by transformers' own names and orders, the quantized ones by
their definitions (GGUF by the gguf package).
"""

import re
from pathlib import Path

import gguf
import sentencepiece
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from nightscribe.model.tokenizer import WORD_MARK
from tests.model.checkpoints.weights import (
    Weights,
    write_beside_language_model,
    write_json,
    write_tokenizer,
)

BOS_ROW_FROM_END = 7  # of the joined table: an audio row, as in the published files


def write_mlx(directory: Path, weights: Weights, bits: int | None = None) -> Path:
    """bf16, or integers of `bits` in the groups that official files have."""
    write_beside_language_model(directory, weights)
    group = {4: 32, 8: 64}.get(bits)
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.language_model.items():
        name = re.sub(r"^emb\.", "audio_embs.", name)
        name = name.replace(".alpha", ".weight").replace("in_proj_weight", "in_proj.weight")
        if bits is None or tensor.dim() != 2 or tensor.shape[1] % group:
            tensors[name] = tensor.flatten() if "norm" in name else tensor
        else:
            tensors |= _mlx_quantized(name.removesuffix(".weight"), tensor, bits, group)
    save_file(
        {name: t.contiguous() for name, t in tensors.items()}, directory / "model.safetensors"
    )
    return directory


def _mlx_quantized(stem: str, tensor: Tensor, bits: int, group: int) -> dict[str, Tensor]:
    groups = tensor.unflatten(1, (-1, group))
    low, high = groups.amin(-1), groups.amax(-1)
    scales = (high - low) / (2**bits - 1)
    integers = ((groups - low[..., None]) / scales[..., None]).round().to(torch.int64)
    per_word = 32 // bits
    words = integers.flatten(1).unflatten(1, (-1, per_word))
    packed = (words << torch.arange(0, 32, bits)).sum(-1)
    return {
        f"{stem}.weight": packed.to(torch.uint32),
        f"{stem}.scales": scales,
        f"{stem}.biases": low,
    }


def write_bitsandbytes(directory: Path, weights: Weights) -> Path:
    """Linear layers as int8 rows with their largest magnitudes; embeddings stay as they are."""
    write_beside_language_model(
        directory, weights, quantize=True, moshi_name="model.q8.safetensors"
    )
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.language_model.items():
        tensors[name] = tensor
        if tensor.dim() == 2 and "emb" not in name:
            largest = tensor.abs().amax(1)
            tensors[name] = (tensor * (127 / largest)[:, None]).round().to(torch.int8)
            tensors[f"{name}_scb"] = largest
    save_file(tensors, directory / "model.q8.safetensors")
    return directory


def write_gguf(directory: Path, weights: Weights, kind: str) -> Path:
    """As candle does: every matrix whose rows fill the blocks is quantized, norms stay fp32."""
    write_beside_language_model(directory, weights, moshi_name="model.gguf")
    writer = gguf.GGUFWriter(directory / "model.gguf", "")
    quantization = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[quantization][0]
    for name, tensor in weights.language_model.items():
        if tensor.dim() == 2 and tensor.shape[1] % block == 0:
            data = gguf.quants.quantize(tensor.numpy(), quantization)
            writer.add_tensor(name, data, raw_dtype=quantization)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return directory


def write_crispasr(directory: Path, weights: Weights) -> Path:
    """As CrispASR's converter: one file with prefixes, short names and divided codebooks."""
    write_beside_language_model(directory, weights, moshi_name="both.gguf")
    for codec in directory.glob("*mimi*.safetensors"):
        codec.unlink()
    writer = gguf.GGUFWriter(directory / "both.gguf", "kyutai-stt")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    for name, tensor in weights.language_model.items():
        writer.add_tensor(crispasr_name(f"lm.{name}"), tensor.numpy())
    mimi = dict(weights.mimi)
    for name in [name for name in mimi if name.endswith("._codebook.embedding_sum")]:
        stem = name.removesuffix("embedding_sum")
        usage = mimi.pop(f"{stem}cluster_usage").clamp_min(1e-5)
        mimi[f"{stem}embedding"] = mimi.pop(name) / usage[:, None]
        mimi.pop(f"{stem}_initialized", None)
    for name, tensor in mimi.items():
        if not name.startswith(("decoder.", "decoder_transformer.", "upsample.")):
            writer.add_tensor(crispasr_name(f"mimi.{name}"), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return directory


def crispasr_name(name: str) -> str:
    for full, short in (
        ("encoder_transformer.transformer.", "enc_tfm."),
        ("self_attn.in_proj_weight", "attn.qkv_w"),
        ("self_attn.out_proj.weight", "attn.out_w"),
        ("layer_scale_1.scale", "ls1"),
        ("layer_scale_2.scale", "ls2"),
        ("linear1.weight", "ffn_up_w"),
        ("linear2.weight", "ffn_down_w"),
        ("gating.linear_in.weight", "gating_in_w"),
        ("gating.linear_out.weight", "gating_out_w"),
        ("conv.conv.conv.", "conv3."),
        ("conv.conv.", "conv2."),
        ("block.1.conv2.", "blk1."),
        ("block.3.conv2.", "blk3."),
    ):
        name = name.replace(full, short)
    return name


def write_transformers(directory: Path, weights: Weights, **changes: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", transformers_settings(weights) | changes)
    write_json(
        directory / "preprocessor_config.json",
        {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 1.0},
    )
    save_file(transformers_tensors(weights), directory / "model.safetensors")
    write_json_tokenizer(directory)
    return directory


def num_joined_rows(weights: Weights) -> int:
    config = weights.config
    return config.num_text_rows + config.num_codebooks * (config.audio_card + 1) + 1


def transformers_settings(weights: Weights) -> dict:
    config, codec = weights.config, weights.mimi_config
    return {
        "model_type": "kyutai_speech_to_text",
        "architectures": ["KyutaiSpeechToTextForConditionalGeneration"],
        "vocab_size": config.num_text_rows,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "ffn_dim": 2 * config.ffn_dim,
        "sliding_window": config.context,
        "max_position_embeddings": 4 * config.context,
        "rope_theta": config.rope_max_period,
        "rms_norm_eps": 1e-8,
        "num_codebooks": config.num_codebooks,
        "codebook_vocab_size": config.audio_card + 1,
        "audio_bos_token_id": config.audio_card,
        "audio_pad_token_id": num_joined_rows(weights) - 1,
        "bos_token_id": num_joined_rows(weights) - BOS_ROW_FROM_END,
        "pad_token_id": 3,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "codec_config": {
            "model_type": "mimi",
            "num_filters": codec.num_filters,
            "hidden_size": codec.dim,
            "num_hidden_layers": codec.num_layers,
            "num_attention_heads": codec.num_heads,
            "num_key_value_heads": codec.num_heads,
            "intermediate_size": codec.ffn_dim,
            "upsampling_ratios": list(reversed(codec.encoder_ratios)),
            "codebook_size": codec.codebook_size,
            "codebook_dim": codec.codebook_dim,
            "vector_quantization_hidden_dimension": codec.codebook_dim,
            "num_quantizers": codec.num_codebooks,
            "sliding_window": codec.context,
            "upsample_groups": codec.dim,
            "norm_eps": codec.norm_eps,
            "rope_theta": codec.rope_max_period,
            "frame_rate": codec.frame_rate_hz,
        },
    }


def transformers_tensors(weights: Weights) -> dict[str, Tensor]:
    config, native = weights.config, weights.language_model
    width = config.dim
    tables = [native[f"emb.{index}.weight"] for index in range(config.num_codebooks)]
    zeros = torch.zeros(1, width)
    tensors = {
        "model.embed_tokens.embed_tokens.weight": torch.cat(
            [native["text_emb.weight"], *tables, zeros]
        ),
        "lm_head.weight": torch.cat([native["text_linear.weight"], zeros]),
        "model.norm.weight": native["out_norm.alpha"].flatten(),
    }
    for index in range(config.num_layers):
        theirs, ours = f"model.layers.{index}.", f"transformer.layers.{index}."
        tensors |= _projections(
            theirs + "self_attn.{}_proj.linear.weight",
            native[f"{ours}self_attn.in_proj_weight"],
            config.num_heads,
        )
        tensors |= {
            f"{theirs}self_attn.o_proj.linear.weight": native[f"{ours}self_attn.out_proj.weight"],
            f"{theirs}mlp.fc1.weight": native[f"{ours}gating.linear_in.weight"],
            f"{theirs}mlp.fc2.weight": native[f"{ours}gating.linear_out.weight"],
            f"{theirs}input_layernorm.weight": native[f"{ours}norm1.alpha"].flatten(),
            f"{theirs}post_attention_layernorm.weight": native[f"{ours}norm2.alpha"].flatten(),
        }
    tensors |= {f"codec_model.{k}": v for k, v in _codec_tensors(weights).items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _codec_tensors(weights: Weights) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.mimi.items():
        if name.endswith("in_proj_weight"):
            name = name.replace("transformer.layers", "layers", 1)
            names = _codec_name(name).replace("in_proj_weight", "{}_proj.weight")
            tensors |= _projections(names, tensor, weights.mimi_config.num_heads)
        else:
            tensors[_codec_name(name)] = tensor
    return tensors


def _codec_name(name: str) -> str:
    for ours, theirs in {
        "encoder_transformer.transformer.": "encoder_transformer.",
        "decoder_transformer.transformer.": "decoder_transformer.",
        "coder.model.": "coder.layers.",
        "downsample.conv.conv.conv.": "downsample.conv.",
        "upsample.convtr.convtr.convtr.": "upsample.conv.",
        ".convtr.convtr.": ".conv.",
        ".conv.conv.": ".conv.",
        "rvq_first.": "semantic_residual_vector_quantizer.",
        "rvq_rest.": "acoustic_residual_vector_quantizer.",
        ".vq.layers.": ".layers.",
        "._codebook._initialized": ".codebook.initialized",
        "._codebook.embedding_sum": ".codebook.embed_sum",
        "._codebook.": ".codebook.",
        "self_attn.out_proj.": "self_attn.o_proj.",
        ".norm1.": ".input_layernorm.",
        ".norm2.": ".post_attention_layernorm.",
        ".linear1.": ".mlp.fc1.",
        ".linear2.": ".mlp.fc2.",
        ".layer_scale_1.": ".self_attn_layer_scale.",
        ".layer_scale_2.": ".mlp_layer_scale.",
    }.items():
        name = name.replace(ours, theirs)
    return name


def _projections(names: str, in_proj: Tensor, num_heads: int) -> dict[str, Tensor]:
    q, k, v = in_proj.chunk(3)
    halves = {"q": _by_halves(q, num_heads), "k": _by_halves(k, num_heads), "v": v.clone()}
    return {names.format(part): tensor for part, tensor in halves.items()}


def _by_halves(rows: Tensor, num_heads: int) -> Tensor:
    """Rows 0, 2, 4, ... of each head, then rows 1, 3, 5, ..."""
    heads = rows.unflatten(0, (num_heads, -1))
    return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).flatten(0, 1).contiguous()


def write_json_tokenizer(directory: Path) -> Path:
    """A `tokenizer.json` of a SentencePiece model, with the parts that published ones have."""
    model = write_tokenizer(directory)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = range(processor.get_piece_size())
    samples = [(processor.id_to_piece(i), processor.get_score(i)) for i in ids]
    tokenizer = tokenizers.Tokenizer(models.Unigram(samples, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", WORD_MARK)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        WORD_MARK, prepend_scheme="first", split=False
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(WORD_MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    tokenizer.add_special_tokens([piece for piece, _ in samples[1:4]])
    path = directory / "tokenizer.json"
    tokenizer.save(str(path))
    model.unlink()
    return path
