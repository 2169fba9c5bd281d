"""From logits to the next token: the most likely, a sampled, a forced or a constrained one.

S slots, V text tokens, P tokens of the longest prompt, D tokens to sample from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from nightscribe.engine.interface import NO_TOKEN

MAX_PROMPT_TOKENS = 512  # each takes at least one step, so these take at least forty seconds
TOP_K = 50  # tokens to sample from


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConstraints:
    """What a stream must output.

    `forced_tokens` are the output of its first steps, the start step included; `NO_TOKEN` leaves a
    step to the model. `prompt_tokens` are output in this order, at steps the model chooses: until
    the last of them, nothing else is allowed but padding.
    """

    forced_tokens: tuple[int, ...] = ()
    prompt_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.prompt_tokens) > MAX_PROMPT_TOKENS:
            raise ValueError(
                f"a prompt may have {MAX_PROMPT_TOKENS} tokens, this one has "
                f"{len(self.prompt_tokens)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a stream samples its tokens; temperature 0 always takes the most likely."""

    temperature: float = 0.0
    top_k: int = TOP_K
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be positive, got {self.top_k}")


def probabilities_of(tokens_S: Tensor, logits_SV: Tensor) -> Tensor:
    """The model's own probability of each token, however the token was chosen."""
    return F.cross_entropy(logits_SV, tokens_S, reduction="none").neg().exp()


def sample(logits_SV: Tensor, sampling: Sampling, positions_S: Tensor) -> Tensor:
    """One token per slot; it depends on seed and position, never on the other slots."""
    if sampling.temperature == 0:
        return logits_SV.argmax(dim=-1)
    temperatures_S = torch.full_like(logits_SV[:, 0], sampling.temperature)
    seeds_S = torch.full_like(positions_S, sampling.seed)
    return sample_each(logits_SV, temperatures_S, seeds_S, positions_S, sampling.top_k)


def sample_each(
    logits_SV: Tensor,
    temperatures_S: Tensor,
    seeds_S: Tensor,
    positions_S: Tensor,
    top_k: int = TOP_K,
) -> Tensor:
    """As `sample`, with a temperature and a seed for each slot."""
    best_SD, tokens_SD = logits_SV.topk(min(top_k, logits_SV.shape[-1]), dim=-1)
    is_sampled_S = temperatures_S > 0
    divisors_S = temperatures_S.masked_fill(~is_sampled_S, 1)
    noise_SD = _gumbel(seeds_S, positions_S, best_SD.shape[-1])
    winner_S1 = (best_SD / divisors_S[:, None] + noise_SD).argmax(dim=-1, keepdim=True)
    sampled_S = tokens_SD.gather(-1, winner_S1)[:, 0]
    return torch.where(is_sampled_S, sampled_S, logits_SV.argmax(dim=-1))


def constrain(logits_SV: Tensor, due_tokens_S: Tensor, padding_tokens: Tensor) -> Tensor:
    """Mask the logits of slots inside a prompt, except for its next token and padding.

    `due_tokens_S` is the next token of each slot's prompt, or `NO_TOKEN` outside a prompt.
    """
    due_S1 = due_tokens_S[:, None]
    allowed_SV = torch.zeros_like(logits_SV, dtype=torch.bool)
    allowed_SV.index_fill_(1, padding_tokens, True)
    allowed_SV.scatter_(1, due_S1.clamp_min(0), True)
    return logits_SV.masked_fill(~allowed_SV & (due_S1 != NO_TOKEN), -torch.inf)


def _gumbel(seeds_S: Tensor, positions_S: Tensor, num_draws: int) -> Tensor:
    """Gumbel noise from a hash of (seed, position, draw): the same on every device."""
    return -(-uniform_noise(seeds_S, positions_S, num_draws).log()).log()


def uniform_noise(seeds_S: Tensor, positions_S: Tensor, num_draws: int) -> Tensor:
    """Numbers SD between 0 and 1, neither included, from a hash of (seed, position, draw)."""
    draws_D = torch.arange(num_draws, device=positions_S.device)
    hashed_SD = _hash_bits(_hash_bits(positions_S + _hash_bits(seeds_S))[:, None] + draws_D)
    # 23 bits plus a half fit fp32 exactly. With more bits 1.0 could occur: its noise is infinite.
    return ((hashed_SD & 0x7FFFFF).float() + 0.5) / 0x800000


def _hash_bits(x: Tensor) -> Tensor:
    """Hash 64-bit integers: two rounds of multiply and xor-shift."""
    for factor in (-0x61C8864680B583EB, -0x40A7B892E31B1A47):
        x = (x + 1) * factor
        x = x ^ ((x >> 31) & 0x1FFFFFFFF)
    return x


@dataclass(slots=True)
class BatchConstraints:
    """The constraints of all slots, and how much of each prompt is already output."""

    forced_SP: Tensor
    prompts_SP: Tensor  # ends in NO_TOKEN
    num_prompted_S: Tensor
    padding_tokens: Tensor  # allowed between the tokens of a prompt

    @classmethod
    def of(
        cls,
        constraints: Sequence[TokenConstraints],
        padding_tokens: tuple[int, ...],
        device: torch.device,
    ) -> Self:
        forced_SP = _table([one.forced_tokens for one in constraints], device)
        prompts_SP = _table([one.prompt_tokens for one in constraints], device)
        num_prompted_S = torch.zeros(len(constraints), dtype=torch.int64, device=device)
        padding = torch.tensor(padding_tokens, device=device)
        return cls(forced_SP, prompts_SP, num_prompted_S, padding)

    def constrain(self, logits_SV: Tensor) -> Tensor:
        """Leave slots inside their prompt only its next token and padding."""
        return constrain(logits_SV, self._due_tokens_S(), self.padding_tokens)

    def force(self, tokens_S: Tensor, positions_S: Tensor) -> Tensor:
        """The output at these positions: forced tokens, else these."""
        last = self.forced_SP.shape[1] - 1
        forced_S1 = self.forced_SP.gather(1, positions_S.clamp_max(last)[:, None])
        output_S = torch.where(forced_S1[:, 0] == NO_TOKEN, tokens_S, forced_S1[:, 0])
        self.num_prompted_S += output_S == self._due_tokens_S()
        return output_S

    def _due_tokens_S(self) -> Tensor:
        return self.prompts_SP.gather(1, self.num_prompted_S[:, None])[:, 0]


def _table(rows: Sequence[tuple[int, ...]], device: torch.device) -> Tensor:
    """Rows of tokens as one tensor, each followed by at least one `NO_TOKEN`."""
    width = max(map(len, rows)) + 1
    filled = [[*row, *[NO_TOKEN] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int64, device=device)
