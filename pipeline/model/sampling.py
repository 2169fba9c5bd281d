"""From logits to the token that is said: the likeliest, a drawn one, a forced one, or one that
keeps to a prompt.

S slots, V text tokens, P tokens of the longest script, D tokens that are drawn from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

FREE = -1  # in a script: the model chooses
MOST_PROMPT_TOKENS = 512  # each takes a step at least, so that these take forty seconds
TOP_K = 50  # tokens that are drawn from


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a stream must say.

    `forced_tokens` are the outputs of its first steps, the start step included; `FREE` leaves one
    to the model. `prompt_tokens` come in this order and at times of the model's own choice: until
    the last of them is said, nothing else is but padding.
    """

    forced_tokens: tuple[int, ...] = ()
    prompt_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.prompt_tokens) > MOST_PROMPT_TOKENS:
            raise ValueError(
                f"a prompt may have {MOST_PROMPT_TOKENS} tokens, this one has "
                f"{len(self.prompt_tokens)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a stream draws its tokens: temperature 0 always takes the likeliest."""

    temperature: float = 0.0
    top_k: int = TOP_K
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be positive, got {self.top_k}")


def probabilities_of(tokens_S: Tensor, logits_SV: Tensor) -> Tensor:
    """How likely the model itself held each token, whatever made it say it."""
    return F.cross_entropy(logits_SV, tokens_S, reduction="none").neg().exp()


def draw(logits_SV: Tensor, sampling: Sampling, positions_S: Tensor) -> Tensor:
    """One token per slot; what is drawn depends on seed and position, never on the neighbours."""
    if sampling.temperature == 0:
        return logits_SV.argmax(dim=-1)
    temperatures_S = torch.full_like(logits_SV[:, 0], sampling.temperature)
    seeds_S = torch.full_like(positions_S, sampling.seed)
    return draw_each(logits_SV, temperatures_S, seeds_S, positions_S, sampling.top_k)


def draw_each(
    logits_SV: Tensor,
    temperatures_S: Tensor,
    seeds_S: Tensor,
    positions_S: Tensor,
    top_k: int = TOP_K,
) -> Tensor:
    """As `draw`, each slot by a temperature and a seed of its own."""
    best_SD, tokens_SD = logits_SV.topk(min(top_k, logits_SV.shape[-1]), dim=-1)
    is_drawn_S = temperatures_S > 0
    divisors_S = temperatures_S.masked_fill(~is_drawn_S, 1)
    noise_SD = _gumbel(seeds_S, positions_S, best_SD.shape[-1])
    winner_S1 = (best_SD / divisors_S[:, None] + noise_SD).argmax(dim=-1, keepdim=True)
    drawn_S = tokens_SD.gather(-1, winner_S1)[:, 0]
    return torch.where(is_drawn_S, drawn_S, logits_SV.argmax(dim=-1))


def hold(logits_SV: Tensor, due_tokens_S: Tensor, silent_tokens: Tensor) -> Tensor:
    """Leave slots inside a prompt only the token that is due and silence."""
    due_S1 = due_tokens_S[:, None]
    allowed_SV = torch.zeros_like(logits_SV, dtype=torch.bool)
    allowed_SV.index_fill_(1, silent_tokens, True)
    allowed_SV.scatter_(1, due_S1.clamp_min(0), True)
    return logits_SV.masked_fill(~allowed_SV & (due_S1 != FREE), -torch.inf)


def _gumbel(seeds_S: Tensor, positions_S: Tensor, num_draws: int) -> Tensor:
    """Gumbel noise from a hash of (seed, position, draw): the same on every device."""
    draws_D = torch.arange(num_draws, device=positions_S.device)
    hashed_SD = _mix(_mix(positions_S + _mix(seeds_S))[:, None] + draws_D)
    # 23 bits and a half have room in fp32: with more, 1 itself would come up, and its noise is
    # infinite.
    uniform_SD = ((hashed_SD & 0x7FFFFF).float() + 0.5) / 0x800000
    return -(-uniform_SD.log()).log()


def _mix(x: Tensor) -> Tensor:
    """Scatter the bits of 64-bit integers: two rounds of multiply and fold."""
    for factor in (-0x61C8864680B583EB, -0x40A7B892E31B1A47):
        x = (x + 1) * factor
        x = x ^ ((x >> 31) & 0x1FFFFFFFF)
    return x


@dataclass(slots=True)
class Scripts:
    """The scripts of all slots, and how far each prompt has been said."""

    forced_SP: Tensor
    prompts_SP: Tensor  # ends in FREE
    num_said_S: Tensor
    silent_tokens: Tensor  # may be said between the tokens of a prompt

    @classmethod
    def of(
        cls, scripts: Sequence[Script], silent_tokens: tuple[int, ...], device: torch.device
    ) -> Self:
        forced_SP = _table([script.forced_tokens for script in scripts], device)
        prompts_SP = _table([script.prompt_tokens for script in scripts], device)
        num_said_S = torch.zeros(len(scripts), dtype=torch.int64, device=device)
        return cls(forced_SP, prompts_SP, num_said_S, torch.tensor(silent_tokens, device=device))

    def hold(self, logits_SV: Tensor) -> Tensor:
        """Leave slots inside their prompt only its next token and silence."""
        return hold(logits_SV, self._due_tokens_S(), self.silent_tokens)

    def force(self, tokens_S: Tensor, positions_S: Tensor) -> Tensor:
        """What is said at these positions when these tokens were chosen."""
        last = self.forced_SP.shape[1] - 1
        forced_S1 = self.forced_SP.gather(1, positions_S.clamp_max(last)[:, None])
        said_S = torch.where(forced_S1[:, 0] == FREE, tokens_S, forced_S1[:, 0])
        self.num_said_S += said_S == self._due_tokens_S()
        return said_S

    def _due_tokens_S(self) -> Tensor:
        return self.prompts_SP.gather(1, self.num_said_S[:, None])[:, 0]


def _table(rows: Sequence[tuple[int, ...]], device: torch.device) -> Tensor:
    """Rows of tokens side by side, each followed by at least one FREE."""
    width = max(map(len, rows)) + 1
    filled = [[*row, *[FREE] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int64, device=device)
