"""Random models of the transformers implementation, and the files that hold them."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from nightscribe.model.config import LanguageModelConfig, MimiConfig
from tests.model.reference import spread

NUM_CODEC_KEYS = 250  # more positions than any test hears: theirs is another window


def random_transformers_model(
    mimi: MimiConfig, language_model: LanguageModelConfig, seed: int, bos_token_id: int
):
    from transformers import KyutaiSpeechToTextForConditionalGeneration

    torch.manual_seed(seed)
    config = _config(mimi, language_model, bos_token_id)
    model = KyutaiSpeechToTextForConditionalGeneration(config).eval()
    _draw(model)
    _spread_codec(model.codec_model, torch.randn(1, 1, 50 * mimi.frame_samples) * 0.3)
    return model


def _config(mimi: MimiConfig, language_model: LanguageModelConfig, bos_token_id: int):
    from transformers import KyutaiSpeechToTextConfig
    from transformers import MimiConfig as CodecConfig

    codec = CodecConfig(
        hidden_size=mimi.dim,
        num_filters=mimi.num_filters,
        upsampling_ratios=list(reversed(mimi.encoder_ratios)),
        codebook_size=mimi.codebook_size,
        codebook_dim=mimi.codebook_dim,
        vector_quantization_hidden_dimension=mimi.codebook_dim,
        num_quantizers=mimi.num_codebooks,
        num_hidden_layers=mimi.num_layers,
        intermediate_size=mimi.ffn_dim,
        num_attention_heads=mimi.num_heads,
        num_key_value_heads=mimi.num_heads,
        sliding_window=NUM_CODEC_KEYS,
        upsample_groups=mimi.dim,
        use_cache=True,
    )
    num_text, num_audio = language_model.text_card + 1, language_model.audio_card + 1
    return KyutaiSpeechToTextConfig(
        codec_config=codec,
        vocab_size=num_text,
        codebook_vocab_size=num_audio,
        audio_bos_token_id=language_model.audio_card,
        audio_pad_token_id=num_text + language_model.num_codebooks * num_audio,
        hidden_size=language_model.dim,
        num_hidden_layers=language_model.num_layers,
        num_attention_heads=language_model.num_heads,
        ffn_dim=2 * language_model.ffn_dim,
        sliding_window=language_model.context,
        num_codebooks=language_model.num_codebooks,
        bos_token_id=bos_token_id,
        pad_token_id=language_model.padding_id,
        rope_parameters={"rope_type": "default", "rope_theta": language_model.rope_max_period},
    )


@torch.no_grad()
def _draw(model) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale.scale"):
            parameter.uniform_(0.5, 1.0)
        elif name.endswith("norm.weight"):
            parameter += 0.1 * torch.randn_like(parameter)
        elif ".conv" not in name and parameter.dim() == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
    table = model.model.embed_tokens.embed_tokens.weight
    table *= 8
    table[-1] = 0
    model.lm_head.weight[-1] = 0  # both of these rows are of zeros in published files


def _spread_codec(codec, samples_B1N: torch.Tensor) -> None:
    quantizer, branches = codec.quantizer, []
    for branch in (
        quantizer.semantic_residual_vector_quantizer,
        quantizer.acoustic_residual_vector_quantizer,
    ):
        books = [layer.codebook for layer in branch.layers]
        branches.append((branch.input_proj, [(b.embed_sum, b.cluster_usage) for b in books]))
    convolutions = [
        module
        for name, module in codec.encoder.named_modules()
        if isinstance(module, torch.nn.Conv1d) and not name.startswith("downsample")
    ]
    spread(convolutions, branches, lambda: codec.encode(samples_B1N))
    for codebook in (m for m in codec.modules() if hasattr(m, "embed_sum")):
        codebook._embed = None


@torch.no_grad()
def say(model, samples_SN: np.ndarray) -> torch.Tensor:
    """Its tokens without the start token; every frame is encoded once."""
    samples_S1N = torch.from_numpy(samples_SN)[:, None].float() / 32768
    return model.generate(input_values=samples_S1N, audio_window_size=None)[:, 1:]


def write(directory: Path, model, *, delay_s: float, silence_prefix_s: float) -> Path:
    """A checkpoint as they are published: weights, config, processor and `tokenizer.json`."""
    model.save_pretrained(directory)
    timing = {"audio_delay_seconds": delay_s, "audio_silence_prefix_seconds": silence_prefix_s}
    (directory / "preprocessor_config.json").write_text(json.dumps(timing))
    samples = {f"piece{index}": index for index in range(model.config.vocab_size - 1)}
    Tokenizer(WordLevel(samples, unk_token="piece0")).save(str(directory / "tokenizer.json"))
    return directory
