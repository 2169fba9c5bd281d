"""Random models of the reference implementation, and the same weights in ours.

Weights are drawn so that every part matters: with the reference's own start values the residual
branches of its codec are so small that a wrong attention window would go unseen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi
from nightscribe.model.speech_to_text import SpeechToText
from ops.benchmarks.moshi_peer import mimi_settings

SMALL_MIMI = MimiConfig(
    sample_rate_hz=24000,
    frame_rate_hz=12.5,
    num_filters=4,
    encoder_ratios=(4, 5, 6, 8),
    kernel_size=7,
    residual_kernel_size=3,
    last_kernel_size=3,
    num_residual_layers=1,
    dilation_base=2,
    compress=2,
    seanet_dim=32,
    dim=32,
    num_heads=4,
    num_layers=2,
    ffn_dim=64,
    context=20,
    rope_max_period=10000.0,
    norm_eps=1e-5,
    codebook_dim=8,
    codebook_size=64,
    num_codebooks=5,
)
SMALL_LANGUAGE_MODEL = LanguageModelConfig(
    dim=64,
    num_heads=4,
    num_layers=3,
    ffn_dim=176,
    context=24,
    rope_max_period=100000.0,
    norm_eps=1e-8,
    num_codebooks=5,
    audio_card=64,
    text_card=50,
    text_start_id=50,
    num_text_rows=51,
    num_vad_heads=4,
    vad_head_dim=6,
)


def native(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The reference's parameters under the names of its files."""
    for name, tensor in state.items():
        name = name.replace("in_projs.0.weight", "in_proj_weight")
        yield name.replace("out_projs.0.weight", "out_proj.weight"), tensor


def random_moshi_mimi(config: MimiConfig, seed: int):
    from moshi.models import loaders

    torch.manual_seed(seed)
    mimi = loaders.get_mimi(None, mimi_settings(config), num_codebooks=config.num_codebooks)
    for name, parameter in mimi.named_parameters():
        if "layer_scale" in name:
            parameter.data.uniform_(0.5, 1.0)
        elif parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    _spread(mimi, torch.randn(1, 1, 50 * config.frame_samples) * 0.3)
    return mimi


def _spread(mimi, samples_B1N: Tensor) -> None:
    convolutions = [m for m in mimi.encoder.modules() if isinstance(m, torch.nn.Conv1d)]
    branches = []
    for branch in (mimi.quantizer.rvq_first, mimi.quantizer.rvq_rest):
        books = [layer._codebook for layer in branch.vq.layers]
        branches.append((branch.input_proj, [(b.embedding_sum, b.cluster_usage) for b in books]))
    spread(convolutions, branches, lambda: mimi.encode(samples_B1N))
    for codebook in (m for m in mimi.modules() if hasattr(m, "embedding_sum")):
        codebook._embedding = None


@torch.no_grad()
def spread(
    convolutions: list[torch.nn.Conv1d],
    branches: list[tuple[torch.nn.Module, list[tuple[Tensor, Tensor]]]],
    hear: Callable[[], object],
) -> None:
    """Scale convolutions so that sound survives them, and codebooks to the latents they meet.

    A branch is its first projection and its codebooks, each a sum of entries and their usage.
    """
    projected: dict[torch.nn.Module, Tensor] = {}
    hooks = [conv.register_forward_hook(_normalize) for conv in convolutions]
    for project, _ in branches:
        hook = project.register_forward_hook(lambda m, _, output: projected.update({m: output}))
        hooks.append(hook)
    hear()
    for hook in hooks:
        hook.remove()
    for project, codebooks in branches:
        vectors_FW = projected[project][0].T
        for level, (sums_VW, usage_V) in enumerate(codebooks):
            entries_VW = torch.randn_like(sums_VW) * vectors_FW.std(0) * 0.97**level
            entries_VW += vectors_FW.mean(0) if level == 0 else 0
            sums_VW.copy_(entries_VW * usage_V.uniform_(0.5, 20)[:, None])


def _normalize(conv: torch.nn.Conv1d, _, output: Tensor) -> Tensor:
    deviation = output.std()
    conv.weight /= deviation
    conv.bias /= deviation
    return output / deviation


def random_moshi_language_model(config: LanguageModelConfig, seed: int, dtype=torch.float32):
    from moshi.models.lm import LMModel

    torch.manual_seed(seed)
    model = LMModel(
        n_q=config.num_codebooks,
        dep_q=0,
        card=config.audio_card,
        text_card=config.text_card,
        dim=config.dim,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        # hidden width = 2/3 of this many times the width
        hidden_scale=config.ffn_dim * 3 / 2 / config.dim,
        norm="rms_norm_f32",
        gating="silu",
        positional_embedding="rope",
        causal=True,
        context=config.context,
        max_period=config.rope_max_period,
        delays=[0] * (config.num_codebooks + 1),
        existing_text_padding_id=config.padding_id,
        extra_heads_num_heads=config.num_vad_heads,
        extra_heads_dim=config.vad_head_dim,
        depformer_multi_linear=True,
        depformer_dim=8,
        depformer_num_heads=2,
        depformer_num_layers=1,
        device="cpu",
    ).eval()
    for name, parameter in model.named_parameters():
        if "alpha" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
        elif name == "text_emb.weight":
            parameter.data *= 3  # what was said must matter for what is said
    return model.to(dtype)


@dataclass(frozen=True)
class Pair:
    """The reference's models and ours, with the same weights."""

    moshi_mimi: torch.nn.Module
    moshi_language_model: torch.nn.Module
    ours: SpeechToText


def random_pair(
    mimi: MimiConfig = SMALL_MIMI,
    language_model: LanguageModelConfig = SMALL_LANGUAGE_MODEL,
    *,
    delay_s: float = 0.5,
    silence_prefix_s: float = 0.0,
    seed: int = 0,
) -> Pair:
    moshi_mimi = random_moshi_mimi(mimi, seed)
    moshi_model = random_moshi_language_model(language_model, seed)
    config = SpeechToTextConfig(
        mimi=mimi,
        language_model=language_model,
        delay_s=delay_s,
        silence_prefix_s=silence_prefix_s,
    )
    ours = SpeechToText(
        config,
        Mimi.load(mimi, native(moshi_mimi.state_dict()), "cpu"),
        LanguageModel.load(language_model, native(moshi_model.state_dict()), "cpu", torch.float32),
    )
    return Pair(moshi_mimi, moshi_model, ours)
