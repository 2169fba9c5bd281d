"""The embedding of text tokens, each of which may carry a second one.

With a second stream an id is (second + 1) x rows + first; without a second token, `second` is -1.
S slots, W width of the table, D width of the embedding.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nightscribe.model.native_tensors import NativeTensor, whole


class TextEmbedding(nn.Module):
    """One table; with a second stream a projection for each of the two tokens."""

    def __init__(self, num_rows: int, width: int, dim: int, has_second_stream: bool) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.table = nn.Embedding(num_rows, width)
        self.project_first = self.project_second = self.widen = None
        if has_second_stream:
            self.project_first = nn.Linear(width, dim, bias=False)
            self.project_second = nn.Linear(width, dim, bias=False)
        elif width != dim:
            self.widen = nn.Linear(width, dim, bias=False)

    def forward(self, ids_S: Tensor) -> Tensor:
        """Embeddings SD; zero for negative ids."""
        if self.project_first is None or self.project_second is None:
            embedded_SW = _rows(self.table, ids_S)
            return embedded_SW if self.widen is None else self.widen(embedded_SW)
        first_S, second_S = ids_S % self.num_rows, ids_S // self.num_rows - 1
        first_S = first_S.masked_fill(ids_S < 0, -1)
        first_SD = self.project_first(_rows(self.table, first_S))
        return first_SD + self.project_second(_rows(self.table, second_S))

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        yield f"{prefix}.weight", whole(self.table.weight)
        projections = {
            "out1": self.project_first,
            "out2": self.project_second,
            "low_rank": self.widen,
        }
        for name, projection in projections.items():
            if projection is not None:
                yield f"{prefix}.{name}.weight", whole(projection.weight)


def _rows(table: nn.Embedding, ids_S: Tensor) -> Tensor:
    """Rows of a table; zeros for negative ids, which projections keep."""
    return table(ids_S.clamp_min(0)) * (ids_S >= 0)[:, None].to(table.weight.dtype)


def summed_rows(table: Tensor, starts_K: Tensor, ids_SK: Tensor) -> Tensor:
    """The sum SD of one row per column of ids; negative ids add nothing.

    The rows of column k begin at `starts_K[k]` of the joined table.
    """
    weights_SK = (ids_SK >= 0).to(table.dtype)
    rows_SK = ids_SK.clamp_min(0) + starts_K
    return torch.nn.functional.embedding_bag(
        rows_SK, table, mode="sum", per_sample_weights=weights_SK
    )
