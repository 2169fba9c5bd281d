"""The implementation in `transformers`, with the same weights as ours.

S slots, N samples, F frames, K codebooks, H heads, C keys, E width of a head.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from nightscribe.benchmarks.random_weights import draw
from nightscribe.model.checkpoints.stored_tensors import StoredTensor, StoredTensors
from nightscribe.model.checkpoints.transformers import native_tensors
from nightscribe.model.config import MimiConfig, SpeechToTextConfig
from nightscribe.model.speech_to_text import SpeechToText


@dataclass(slots=True)
class TransformersPeer:
    """Its model; the codec is in fp32, like ours."""

    model: Any

    @classmethod
    def like(cls, speech: SpeechToText) -> Self:
        """The same model: `speech`, not packed yet, gets the weights of this one."""
        from transformers import KyutaiSpeechToTextForConditionalGeneration
        from transformers.initialization import no_init_weights

        dtype = speech.language_model.norm.scale_D.dtype
        with no_init_weights():
            model = KyutaiSpeechToTextForConditionalGeneration._from_config(
                _config(speech.config), dtype=dtype
            )
        model.to(speech.device).eval().requires_grad_(False)
        model.codec_model.float()
        _draw(model)
        _take(speech, model)
        return cls(model)

    @torch.no_grad()
    def step(self, codes_SK: Tensor, text_S: Tensor, cache: Any) -> Tensor:
        """The next token of every slot; the cache grows by one position."""
        inputs_S1K = torch.cat((text_S[:, None], codes_SK), dim=-1)[:, None]
        return self.model(input_ids=inputs_S1K, past_key_values=cache).logits[:, -1].argmax(-1)

    def cache_at(self, num_slots: int, num_positions: int) -> Any:
        """A KV cache of streams at position `num_positions`."""
        from transformers import DynamicCache

        config = self.model.config
        cache = DynamicCache(config=config)
        shape_SHCE = (num_slots, config.num_attention_heads, num_positions, config.head_dim)
        for layer in range(config.num_hidden_layers if num_positions else 0):
            keys, values = (
                torch.randn(shape_SHCE, device=self.model.device).to(self.model.dtype)
                for _ in range(2)
            )
            cache.update(keys, values, layer)
        return cache

    @torch.no_grad()
    def transcribe(self, samples_SN: Tensor) -> Tensor:
        """The token of each frame but the last, which `generate` ignores."""
        tokens = self.model.generate(input_values=samples_SN[:, None], audio_window_size=None)
        return tokens[:, 2:]


@torch.no_grad()
def _draw(model: Any) -> None:
    draw(model)
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):
            buffer.normal_()
        elif name.endswith("cluster_usage"):
            buffer.fill_(1)
    # Both rows are zero in published files.
    model.model.embed_tokens.embed_tokens.weight[-1] = 0
    model.lm_head.weight[-1] = 0


def _take(speech: SpeechToText, model: Any) -> None:
    """Overwrite our weights with theirs."""
    tensors = {name: _stored(name, tensor) for name, tensor in model.state_dict().items()}
    language_model, mimi = native_tensors(
        StoredTensors(tensors, Path("memory")),
        speech.language_model.config,
        speech.mimi.config,
        model.config.bos_token_id,
    )
    for ours, theirs in ((speech.language_model, language_model), (speech.mimi, mimi)):
        for name, place in ours.native_tensors().items():
            place.fill(theirs[name]())
    speech.mimi.quantizer.settle()


def _stored(name: str, tensor: Tensor) -> StoredTensor:
    return StoredTensor(
        name=name,
        path=Path("memory"),
        shape=tuple(tensor.shape),
        is_float=tensor.is_floating_point(),
        read_rows=lambda first, end: tensor[first:end],
    )


def _config(speech: SpeechToTextConfig) -> Any:
    from transformers import KyutaiSpeechToTextConfig

    config = speech.language_model
    num_text, num_audio = config.text_card + 1, config.audio_card + 1
    return KyutaiSpeechToTextConfig(
        codec_config=_codec_config(speech.mimi),
        vocab_size=num_text,
        codebook_vocab_size=num_audio,
        audio_bos_token_id=config.audio_card,
        audio_pad_token_id=num_text + config.num_codebooks * num_audio,
        hidden_size=config.dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        ffn_dim=2 * config.ffn_dim,
        sliding_window=config.context,
        num_codebooks=config.num_codebooks,
        bos_token_id=config.text_start_id,
        pad_token_id=config.padding_id,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_max_period},
    )


def _codec_config(config: MimiConfig) -> Any:
    from transformers import MimiConfig as CodecConfig

    return CodecConfig(
        hidden_size=config.dim,
        num_filters=config.num_filters,
        upsampling_ratios=list(reversed(config.encoder_ratios)),
        codebook_size=config.codebook_size,
        codebook_dim=config.codebook_dim,
        vector_quantization_hidden_dimension=config.codebook_dim,
        num_quantizers=config.num_codebooks,
        num_hidden_layers=config.num_layers,
        intermediate_size=config.ffn_dim,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_heads,
        sliding_window=config.context,
        upsample_groups=config.dim,
        use_cache=True,
    )
