"""Prefers terms while decoding: a trie over the pieces of the tokenizer, walked by every slot.

A piece that begins a term, or continues the one that the slot is in, gets a bonus on its logit.
Where the model would be silent nothing is changed, so a bias moves no word in time and adds none
to silence. Padding between the words of a term keeps the slot's place in it.

The terms of a run are one trie for all slots. The terms of a stream are a trie of its own, as a
list of edges, which comes with the rounds that the stream is in.

S slots, V text tokens, N nodes of the trie, C children of a node, T steps of a round,
L tries of a round, E edges of a trie.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.tokenizer import Tokenizer

ROOT = 0
NO_EDGE = -1
MAX_EDGES = 512  # of the terms of one stream: pieces that do not begin like those of another term


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

    def edges_E3(self) -> np.ndarray:
        """Node, piece and the node after it; the root after the last piece of a term."""
        edges = [
            (node, token, child if self.children[child] else ROOT)
            for node, following in enumerate(self.children)
            for token, child in following.items()
        ]
        return np.array(edges, np.int64).reshape(len(edges), 3)


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

    def bonus_SV(self, logits_SV: Tensor, is_fresh_S: Tensor) -> Tensor:
        """What every slot's next pieces get; a fresh slot is at the root."""
        nodes_S = self._nodes_S[: len(logits_SV)]
        nodes_S.masked_fill_(is_fresh_S, ROOT)
        bonus_SV = torch.zeros_like(logits_SV)
        for at_S in (torch.full_like(nodes_S, ROOT), nodes_S):
            tokens_SC = self._tokens_NC[at_S]
            wanted_SC = self._bonus_NC[at_S].to(bonus_SV.dtype)
            _raise_to(bonus_SV, tokens_SC, wanted_SC)
        return bonus_SV

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


class StreamTermBias:
    """The tries of the streams of a round, and where in its own every slot is."""

    def __init__(self, strength: float, padding_tokens: Tensor, nodes_S: Tensor, num_tries: int):
        """`nodes_S`, the state of the slots, belongs to their runner."""
        device = padding_tokens.device
        self._strength, self._padding_tokens, self._nodes_S = strength, padding_tokens, nodes_S
        # Trie 0 is empty.
        shape = 3, num_tries + 1, MAX_EDGES
        self._edges_3LE = torch.full(shape, NO_EDGE, dtype=torch.int32, device=device)

    def load(self, tries: Sequence[np.ndarray], upload: Callable[[np.ndarray], Tensor]) -> None:
        """The tries of a round, counted from 1."""
        if tries:
            edges_3LE = np.full((3, len(tries), MAX_EDGES), NO_EDGE, np.int32)
            for number, edges_E3 in enumerate(tries):
                edges_3LE[:, number, : len(edges_E3)] = edges_E3.T
            self._edges_3LE[:, 1 : len(tries) + 1] = upload(edges_3LE)

    def bonus_SV(self, logits_SV: Tensor, is_fresh_S: Tensor, tries_S: Tensor) -> Tensor:
        """What the next pieces of every slot's own terms get."""
        nodes_S = self._nodes_S[: len(logits_SV)]
        nodes_S.masked_fill_(is_fresh_S, ROOT)
        from_SE, tokens_SE, _ = self._edges_3LE[:, tries_S].long()
        is_next_SE = (from_SE == ROOT) | (from_SE == nodes_S[:, None])
        bonus_SV = torch.zeros_like(logits_SV)
        _raise_to(bonus_SV, tokens_SE, is_next_SE * self._strength)
        return bonus_SV

    def advance(self, tokens_S: Tensor, is_held_S: Tensor, tries_S: Tensor) -> None:
        """Follow the tokens that were output; a slot on hold stays where it is."""
        nodes_S = self._nodes_S[: len(tokens_S)]
        from_SE, tokens_SE, to_SE = self._edges_3LE[:, tries_S].long()
        is_it_SE = tokens_SE == tokens_S[:, None]
        is_followed_SE = is_it_SE & (from_SE == nodes_S[:, None])
        is_begun_SE = is_it_SE & (from_SE == ROOT)
        followed_S, begun_S = ((is_one * to_SE).sum(-1) for is_one in (is_followed_SE, is_begun_SE))
        next_S = torch.where(is_followed_SE.any(-1), followed_S, begun_S)
        stays_S = is_held_S | torch.isin(tokens_S, self._padding_tokens)
        nodes_S.copy_(torch.where(stays_S, nodes_S, next_S))


def preferred(logits_SV: Tensor, bonus_SV: Tensor, padding_tokens: Tensor) -> Tensor:
    """The logits with the bonus, except where the model would be silent."""
    is_silent_S = torch.isin(logits_SV.argmax(dim=-1), padding_tokens)
    return torch.where(is_silent_S[:, None], logits_SV, logits_SV + bonus_SV)


def _raise_to(bonus_SV: Tensor, tokens_SC: Tensor, wanted_SC: Tensor) -> None:
    """At least so much for these tokens; a token below 0 is none."""
    wanted_SC = torch.where(tokens_SC >= 0, wanted_SC, 0.0).to(bonus_SV.dtype)
    bonus_SV.scatter_reduce_(1, tokens_SC.clamp_min(0), wanted_SC, "amax", include_self=True)
