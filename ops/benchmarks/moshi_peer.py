"""The reference implementation, PyPI's `moshi`, with our weights, used as its own programs use it.

S slots, N samples, F frames, K codebooks.
"""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from nightscribe.model.config import LanguageModelConfig, MimiConfig
from nightscribe.model.native_tensors import NativeTensor, read
from nightscribe.model.speech_to_text import SpeechToText


@dataclass(slots=True)
class MoshiPeer:
    """Its codec and its language model, run frame by frame."""

    mimi: Any
    language_model: Any
    generator: Any
    streams: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def like(cls, speech: SpeechToText) -> Self:
        """The same model; the matrices of `speech` must not be packed yet."""
        from moshi.models.lm import LMGen

        dtype = speech.language_model.norm.scale_D.dtype
        language_model = _language_model(speech.language_model.config, dtype)
        _fill(language_model, speech.language_model.native_tensors())
        mimi = _mimi(speech.mimi.config, speech.device)
        _fill(mimi, speech.mimi.native_tensors())
        return cls(mimi, language_model, LMGen(language_model, use_sampling=False))

    def begin(self, num_slots: int) -> None:
        """Reset all state, for `num_slots` streams."""
        self.streams.close()
        self.streams.enter_context(self.generator.streaming(num_slots))
        self.streams.enter_context(self.mimi.streaming(num_slots))

    def fill_cache(self) -> None:
        """Fill its KV cache, all of which it reads at every step."""
        for module in self.language_model.modules():
            memory = getattr(getattr(module, "_streaming_state", None), "kv_cache", None)
            if memory is not None:
                memory.cache.normal_()

    @torch.no_grad()
    def encode(self, samples_SN: Tensor) -> Tensor:
        """Codes SFK, one frame per call, as its streaming programs do."""
        frames = samples_SN[:, None].split(self.mimi.frame_size, dim=-1)
        return torch.cat([self.mimi.encode(frame) for frame in frames], dim=-1).mT

    @torch.no_grad()
    def step(self, codes_SK: Tensor) -> Tensor:
        """The next token of every slot; the first one comes a step late."""
        return self.generator.step(codes_SK[..., None])

    def transcribe(self, samples_SN: Tensor) -> Tensor:
        """The token of each frame, SF, for waveforms of whole frames."""
        self.begin(len(samples_SN))
        tokens = []
        for frame, samples in enumerate(samples_SN.split(self.mimi.frame_size, dim=-1)):
            codes_SK = self.encode(samples)[:, 0]
            if frame == 0:  # the start step ignores its codes
                self.step(codes_SK)
            tokens.append(self.step(codes_SK))
        return torch.cat([tokens_S11[:, 0] for tokens_S11 in tokens], dim=-1)


def _fill(module: nn.Module, places: dict[str, NativeTensor]) -> None:
    tensors = dict(read(places))
    for name in list(tensors):
        theirs = name.replace("in_proj_weight", "in_projs.0.weight")
        theirs = theirs.replace("self_attn.out_proj.weight", "self_attn.out_projs.0.weight")
        tensors[theirs] = tensors.pop(name)
    missing, surplus = module.load_state_dict(tensors, strict=False, assign=True)
    needed = [name for name in missing if not name.startswith(("decoder", "upsample"))]
    needed = [name for name in needed if not name.endswith(("output_proj.weight", "_initialized"))]
    if needed or surplus:
        raise ValueError(f"moshi's model differs from ours: {[*needed, *surplus][:3]}")


def _mimi(config: MimiConfig, device: torch.device) -> Any:
    from moshi.models import loaders

    theirs = mimi_settings(config)
    mimi = loaders.get_mimi(None, theirs, device, num_codebooks=config.num_codebooks)
    return mimi.eval().requires_grad_(False)


def mimi_settings(config: MimiConfig) -> dict[str, Any]:
    """A codec configuration in moshi's format."""
    from moshi.models import loaders

    theirs: Any = deepcopy(loaders._mimi_config)
    theirs["seanet"] |= {
        "dimension": config.seanet_dim,
        "n_filters": config.num_filters,
        "n_residual_layers": config.num_residual_layers,
        "ratios": list(reversed(config.encoder_ratios)),
    }
    theirs["quantizer"] |= {
        "dimension": config.codebook_dim,
        "n_q": config.num_codebooks,
        "bins": config.codebook_size,
        "input_dimension": config.dim,
        "output_dimension": config.dim,
    }
    theirs["transformer"] |= {
        "d_model": config.dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_layers,
        "context": config.context,
        "max_period": config.rope_max_period,
        "dim_feedforward": config.ffn_dim,
        "input_dimension": config.seanet_dim,
        "output_dimensions": [config.dim],
    }
    return theirs


def _language_model(config: LanguageModelConfig, dtype: torch.dtype) -> Any:
    """Without weights yet: initialising them would take long."""
    from moshi.models.lm import LMModel

    hidden_scale: Any = config.ffn_dim * 3 / 2 / config.dim
    model = LMModel(
        n_q=config.num_codebooks,
        dep_q=0,
        card=config.audio_card,
        text_card=config.text_card,
        dim=config.dim,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        hidden_scale=hidden_scale,
        norm="rms_norm_f32",
        gating="silu",
        positional_embedding="rope",
        causal=True,
        context=config.context,
        max_period=config.rope_max_period,
        delays=[0] * (config.num_codebooks + 1),
        existing_text_padding_id=config.padding_id,
        depformer_multi_linear=True,
        depformer_dim=8,
        depformer_num_heads=2,
        depformer_num_layers=1,
        device="meta",
        dtype=dtype,
    )
    return model.eval().requires_grad_(False)
