"""The error of bf16 against fp32 with the same weights: ours, moshi's and transformers'.

    python -m ops.benchmarks.rounding [LAYERS [FRAMES]]

The 1B shape with random weights, eight streams of random codes; at every frame all get the token
that fp32 sampled at the frame before. Ours is also run with embeddings added as in moshi, rounding
after each addition.

S slots, K codebooks, V text tokens, N names.
"""

import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table, conditions
from nightscribe.model.language_model import LanguageModel
from ops.benchmarks.peers import Peers, load_peers
from ops.benchmarks.side_by_side import OTHERS, Setup

CPU = torch.device("cpu")
NUM_SLOTS = 8
EXACT = "fp32"
# A step: codes SK and text S in, whether it is the first; logits SV out.
Step = Callable[[Tensor, Tensor, bool], Tensor]


def measure(num_layers: int, num_frames: int) -> Table:
    config = config_of("1b", num_layers)
    setup = Setup(device=CPU, dtype=torch.bfloat16, num_slots=(NUM_SLOTS,), peers=OTHERS, repeats=1)
    steps, lm = _steps(load_peers(config, setup)), config.language_model
    text_S = torch.full((NUM_SLOTS,), lm.text_start_id)
    codes_SK = torch.full((NUM_SLOTS, lm.num_codebooks), lm.audio_card)
    same: dict[str, list[float]] = {name: [] for name in steps}
    errors: dict[str, list[float]] = {name: [] for name in steps}
    for frame in range(num_frames + 1):
        logits = {name: step(codes_SK, text_S, frame == 0) for name, step in steps.items()}
        text_S = logits[EXACT].argmax(-1)
        for name, logits_SV in logits.items():
            same[name].append((logits_SV.argmax(-1) == text_S).float().mean().item())
            errors[name].append((logits_SV - logits[EXACT]).square().mean().item())
        codes_SK = torch.randint(lm.audio_card, codes_SK.shape)
    return Table(
        title="bf16 against fp32",
        columns=("implementation", "tokens equal to fp32's", "error of a logit"),
        rows=[
            (name, f"{_mean(same[name]):.1%}", _mean(errors[name]) ** 0.5)
            for name in steps
            if name != EXACT
        ],
        notes=(
            f"1B shape, {lm.num_layers} layers, {NUM_SLOTS} streams of {num_frames} frames after "
            "the start; the logits themselves have a deviation of 1. Errors are roots of mean "
            "squares.",
        ),
    )


def _steps(peers: Peers) -> dict[str, Step]:
    assert peers.moshi is not None
    assert peers.transformers is not None
    ours = peers.ours.language_model
    exact = deepcopy(ours).float()
    peers.moshi.begin(NUM_SLOTS)
    memory = peers.transformers.cache_at(NUM_SLOTS, 0)
    return {
        EXACT: _ours(exact, exact.embedding.add_at_once),
        "ours": _ours(ours, ours.embedding.add_at_once),
        "ours, rounding after each addition": _ours(ours, ours.embedding.add_in_order),
        "moshi": partial(_moshi, peers.moshi.language_model),
        "transformers": partial(
            _transformers, peers.transformers.model, memory, ours.config.text_card
        ),
    }


def _ours(model: LanguageModel, embed: Any) -> Step:
    cache = model.empty_cache(NUM_SLOTS)

    def step(codes_SK: Tensor, text_S: Tensor, is_first: bool) -> Tensor:
        model.embed = embed
        fresh_S = torch.full((NUM_SLOTS,), is_first)
        return model.extend(codes_SK[:, None], text_S[:, None], cache, fresh_S).logits_STV[:, 0]

    return step


def _moshi(model: Any, codes_SK: Tensor, text_S: Tensor, is_first: bool) -> Tensor:
    _, logits_S11V = model.forward_text(torch.cat((text_S[:, None], codes_SK), 1)[..., None])
    return logits_S11V[:, 0, 0].float()


def _transformers(
    model: Any, memory: Any, text_card: int, codes_SK: Tensor, text_S: Tensor, is_first: bool
) -> Tensor:
    heard_S1K = torch.cat((text_S[:, None], codes_SK), -1)[:, None]
    return model(input_ids=heard_S1K, past_key_values=memory).logits[:, -1, :text_card].float()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@torch.no_grad()
def main(num_layers: str = "0", num_frames: str = "25") -> None:
    torch.set_num_threads(1)
    header = "\n".join(f"- {line}" for line in conditions(CPU))
    sys.stdout.write(f"{header}\n\n{measure(int(num_layers), int(num_frames)).markdown()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
