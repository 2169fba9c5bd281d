"""Prefers terms while decoding: a trie over the pieces of the tokenizer, walked by every slot.

A piece that begins a term, or continues the one that the slot is in, gets a bonus on its logit.
Where the model would be silent nothing is changed, so a bias moves no word in time and adds none
to silence. Padding between the words of a term keeps the slot's place in it.

S slots, V text tokens, N nodes of the trie, C children of a node.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nightscribe.model.tokenizer import Tokenizer

ROOT = 0


@dataclass(slots=True)
class TermTrie:
    """The pieces of all terms as a tree; node 0 is the root."""

    strength: float
    children: list[dict[int, int]] = field(default_factory=lambda: [{}])  # token to node, by node

    @classmethod
    def of(cls, terms: Iterable[str], strength: float, tokenizer: Tokenizer) -> "TermTrie":
        """ValueError for a term that the model's pieces cannot write."""
        trie = cls(strength)
        for term in terms:
            tokens = tokenizer.encode(term)
            if not tokens or tokenizer.decode(tokens).strip() != " ".join(term.split()):
                raise ValueError(
                    f"the term {term!r} cannot be written in the model's pieces (they give "
                    f"{tokenizer.decode(tokens)!r}); write it as the model does, or leave it out"
                )
            trie.add(tokens)
        return trie

    def add(self, tokens: Sequence[int]) -> None:
        node = ROOT
        for token in tokens:
            if token not in self.children[node]:
                self.children[node][token] = len(self.children)
                self.children.append({})
            node = self.children[node][token]


class TermBias:
    """The trie on a device, and where in it every slot is."""

    def __init__(self, trie: TermTrie, padding_tokens: Tensor, nodes_S: Tensor) -> None:
        """`nodes_S`, the state of the slots, belongs to their runner."""
        device = padding_tokens.device
        width = max(map(len, trie.children))
        tokens = [[*node, *[-1] * (width - len(node))] for node in trie.children]
        # A leaf is the end of a term: from there the next one begins at the root.
        nodes = [
            [child if trie.children[child] else ROOT for child in node.values()]
            + [ROOT] * (width - len(node))
            for node in trie.children
        ]
        self._tokens_NC = torch.tensor(tokens, device=device)
        self._nodes_NC = torch.tensor(nodes, device=device)
        self._bonus_NC = (self._tokens_NC >= 0) * trie.strength
        self._padding_tokens = padding_tokens
        self._nodes_S = nodes_S

    def biased(self, logits_SV: Tensor, is_fresh_S: Tensor) -> Tensor:
        """The logits with the bonus of every slot's next pieces; a fresh slot is at the root."""
        nodes_S = self._nodes_S[: len(logits_SV)]
        nodes_S.masked_fill_(is_fresh_S, ROOT)
        is_silent_S = torch.isin(logits_SV.argmax(dim=-1), self._padding_tokens)
        bonus_SV = torch.zeros_like(logits_SV)
        for at_S in (torch.full_like(nodes_S, ROOT), nodes_S):
            tokens_SC = self._tokens_NC[at_S].clamp_min(0)
            given_SC = bonus_SV.gather(1, tokens_SC)
            # Not added twice where both the root and the slot's node have the same piece.
            wanted_SC = torch.maximum(given_SC, self._bonus_NC[at_S].to(given_SC.dtype))
            is_real_SC = self._tokens_NC[at_S] >= 0
            bonus_SV.scatter_reduce_(
                1, tokens_SC, torch.where(is_real_SC, wanted_SC, 0.0), "amax", include_self=True
            )
        return torch.where(is_silent_S[:, None], logits_SV, logits_SV + bonus_SV)

    def advance(self, tokens_S: Tensor, is_held_S: Tensor) -> None:
        """Follow the tokens that were output; a slot on hold stays where it is."""
        nodes_S = self._nodes_S[: len(tokens_S)]
        stays_S = is_held_S | torch.isin(tokens_S, self._padding_tokens)
        begun_S = self._next(torch.full_like(nodes_S, ROOT), tokens_S)
        followed_S = self._next(nodes_S, tokens_S)
        next_S = torch.where(self._has(nodes_S, tokens_S), followed_S, begun_S)
        nodes_S.copy_(torch.where(stays_S, nodes_S, next_S))

    def _has(self, nodes_S: Tensor, tokens_S: Tensor) -> Tensor:
        return (self._tokens_NC[nodes_S] == tokens_S[:, None]).any(dim=-1)

    def _next(self, nodes_S: Tensor, tokens_S: Tensor) -> Tensor:
        """The child for this token; the root where there is none."""
        is_it_SC = self._tokens_NC[nodes_S] == tokens_S[:, None]
        return (self._nodes_NC[nodes_S] * is_it_SC).sum(dim=-1)
