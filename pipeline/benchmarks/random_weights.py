"""Models with random weights in several sizes: the time of a step does not depend on the weights.

K codebooks, V entries of a codebook, W width of an entry, N vectors.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from nightscribe.model.checkpoints.native_config import PUBLISHED, PUBLISHED_MIMI, RMS_NORM_EPS
from nightscribe.model.config import LanguageModelConfig, SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi, ResidualCodebooks
from nightscribe.model.native_tensors import without_memory
from nightscribe.model.speech_to_text import SpeechToText

PERIOD = 1_000_003  # a prime: no tensor's width is a multiple of it

SIZES = ("toy", "small", "1b", "2.6b")
PUBLISHED_NAMES = {"1b": "stt-1b-en_fr", "2.6b": "stt-2.6b-en"}
TOY_MIMI = replace(
    PUBLISHED_MIMI,
    num_filters=4,
    seanet_dim=32,
    dim=32,
    num_heads=4,
    num_layers=2,
    ffn_dim=64,
    context=20,
    codebook_dim=8,
    codebook_size=64,
    num_codebooks=4,
)
_MIMI = {"toy": TOY_MIMI, "small": PUBLISHED_MIMI}
_LANGUAGE_MODELS = {
    "toy": {"dim": 32, "num_heads": 2, "num_layers": 2, "ffn_dim": 64, "context": 24},
    "small": {"dim": 256, "num_heads": 4, "num_layers": 4, "ffn_dim": 704, "context": 64},
}
_TEXT_CARDS = {"toy": 100, "small": 8000}


def config_of(size: str, num_layers: int = 0) -> SpeechToTextConfig:
    """The configuration of a size; `num_layers` replaces its number of layers, 0 keeps it."""
    if size not in SIZES:
        raise ValueError(f"there is no size {size!r}; sizes are {', '.join(SIZES)}")
    name = PUBLISHED_NAMES.get(size)
    config = _unpublished(size) if name is None else PUBLISHED[name]
    if not num_layers:
        return config
    return replace(config, language_model=replace(config.language_model, num_layers=num_layers))


def _unpublished(size: str) -> SpeechToTextConfig:
    mimi, text_card = _MIMI[size], _TEXT_CARDS[size]
    language_model = LanguageModelConfig(
        **_LANGUAGE_MODELS[size],
        rope_max_period=1e5,
        norm_eps=RMS_NORM_EPS,
        num_codebooks=mimi.num_codebooks,
        audio_card=mimi.codebook_size,
        text_card=text_card,
        text_start_id=text_card,
        num_text_rows=text_card + 1,
    )
    return SpeechToTextConfig(
        mimi=mimi, language_model=language_model, delay_s=0.5, silence_prefix_s=0.0
    )


@torch.no_grad()
def random_speech(
    config: SpeechToTextConfig, device: torch.device, dtype: torch.dtype
) -> SpeechToText:
    """A whole model with random weights, whose codec gives different codes to different noise."""
    torch.manual_seed(0)
    with without_memory():
        mimi, language_model = Mimi(config.mimi), LanguageModel(config.language_model).to(dtype)
    for module in (mimi, language_model):
        module.to_empty(device=device).eval().requires_grad_(False)
        draw(module)
    latents = mimi(torch.randn(1, 25 * config.mimi.frame_samples, device=device) * 0.1)
    for codebooks in (mimi.quantizer.semantic, mimi.quantizer.acoustic):
        _spread(codebooks, latents)
    return SpeechToText(config, mimi, language_model)


@torch.no_grad()
def draw(module: nn.Module) -> None:
    """Fill in random weights that preserve the scale of activations."""
    for name, tensor in module.named_parameters():
        if tensor.dim() == 1:
            tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            _fill(tensor, std=tensor[0].numel() ** -0.5)


def _fill(tensor: Tensor, std: float) -> None:
    """Repeat one block of normal numbers: drawing a billion would dominate the benchmark."""
    drawn = (torch.randn(PERIOD, device=tensor.device) * std).to(tensor.dtype)
    for piece in tensor.view(-1).split(PERIOD):
        piece.copy_(drawn[: len(piece)])


def _spread(codebooks: ResidualCodebooks, latents_BFD: Tensor) -> None:
    """Place codebook entries near the vectors they quantize, closer at each level."""
    vectors_NW = codebooks.project_in(latents_BFD).flatten(0, 1)
    codebooks.usage_KV.fill_(1)
    for level, codebook_VW in enumerate(codebooks.codebooks_KVW):
        codebook_VW.normal_().mul_(vectors_NW.std(0) * 0.97**level)
    codebooks.codebooks_KVW[0] += vectors_NW.mean(0)
    codebooks.settle()
