"""Models of random weights: how long a step takes does not depend on what they say.

K codebooks, V entries of one, W their width, N vectors.
"""

import torch
from torch import Tensor, nn

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi, ResidualCodebooks
from nightscribe.model.speech_to_text import SpeechToText

PERIOD = 1_000_003  # a prime: it divides no width


@torch.no_grad()
def random_speech(
    config: SpeechToTextConfig, device: torch.device, dtype: torch.dtype
) -> SpeechToText:
    """A whole model; its codec hears apart what noise is apart."""
    torch.manual_seed(0)
    with torch.device("meta"):
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
    """Weights that keep the size of what passes through them."""
    for name, tensor in module.named_parameters():
        if tensor.dim() == 1:
            tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            _fill(tensor, std=tensor[0].numel() ** -0.5)


def _fill(tensor: Tensor, std: float) -> None:
    """The same normal numbers over and over: a billion of them would take longer than all else."""
    drawn = (torch.randn(PERIOD, device=tensor.device) * std).to(tensor.dtype)
    for piece in tensor.view(-1).split(PERIOD):
        piece.copy_(drawn[: len(piece)])


def _spread(codebooks: ResidualCodebooks, latents_BFD: Tensor) -> None:
    """Entries where the vectors are that they quantize, each level closer."""
    vectors_NW = codebooks.project_in(latents_BFD).flatten(0, 1)
    codebooks.usage_KV.fill_(1)
    for level, codebook_VW in enumerate(codebooks.codebooks_KVW):
        codebook_VW.normal_().mul_(vectors_NW.std(0) * 0.97**level)
    codebooks.codebooks_KVW[0] += vectors_NW.mean(0)
    codebooks.settle()
