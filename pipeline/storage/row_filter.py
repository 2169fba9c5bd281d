"""Conditions on transcripts, such as `status != 'ok' or confidence < 0.8`.

They are read as a small part of Python's expressions: columns, texts, numbers, comparisons, `in`,
`and`, `or`, `not`. Nothing is evaluated by Python itself. A comparison with a missing value is not
true.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage.schema import TRANSCRIPTS

# The mean of the confidences of its words; no column of its own.
CONFIDENCE = "confidence"
WORD_CONFIDENCES = "words.list.element.confidence"
FAILED = "failed"
NAMES = {name: kind for name, (kind, _) in TRANSCRIPTS.items() if not pa.types.is_nested(kind)} | {
    CONFIDENCE: pa.float64()
}

COMPARISONS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A condition; ValueError with the cure if it cannot be read."""

    text: str
    _tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            raise self._error("it cannot be read", "; equality is ==") from None
        object.__setattr__(self, "_tree", tree)
        self.mask(_empty())

    @property
    def columns(self) -> list[str]:
        """The stored columns that it needs."""
        names = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
        return sorted(WORD_CONFIDENCES if name == CONFIDENCE else name for name in names)

    def mask(self, table: pa.Table) -> pa.Array:
        """One boolean for each row of a table with these columns."""
        try:
            mask = self._value(self._tree, table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            raise self._error("it compares values of different types") from None
        if not isinstance(mask, pa.Array | pa.ChunkedArray) or not pa.types.is_boolean(mask.type):
            raise self._error("it is no condition")
        return pc.fill_null(mask, False)

    def _value(self, node: ast.expr, table: pa.Table) -> Any:
        if isinstance(node, ast.BoolOp):
            join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            first, *rest = (self._value(one, table) for one in node.values)
            for one in rest:
                first = join(first, one)
            return first
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return pc.invert(self._value(node.operand, table))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._comparison(node.left, node.ops[0], node.comparators[0], table)
        if isinstance(node, ast.Name):
            return self._column(node.id, table)
        return pa.scalar(self._literal(node))

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, table: pa.Table) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            column = self._value(left, table)
            found = pc.is_in(column, pa.array(self._literal(right), column.type))
            return found if isinstance(op, ast.In) else pc.invert(found)
        if type(op) not in COMPARISONS:
            raise self._error("it uses more than comparisons, in, and, or, not")
        return COMPARISONS[type(op)](self._value(left, table), self._value(right, table))

    def _column(self, name: str, table: pa.Table) -> pa.ChunkedArray:
        if name not in NAMES:
            near = get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(NAMES)}"
            raise self._error(f"there is no column {name}", hint)
        if name == CONFIDENCE and name not in table.column_names:
            return mean_confidence(table["words"])
        return table[name]

    def _literal(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise self._error("it uses more than comparisons, in, and, or, not") from None

    def _error(self, reason: str, hint: str = "") -> ValueError:
        return ValueError(f"the condition {self.text!r} does not work: {reason}{hint}")


def mean_confidence(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """The mean confidence of the words of each row; null where there are none."""
    words = words.combine_chunks()
    rows = pc.list_parent_indices(words)
    confidences = pc.struct_field(pc.list_flatten(words), "confidence")
    sums = pa.table({"row": rows, "confidence": confidences}).group_by("row")
    means = sums.aggregate([("confidence", "mean")])
    places = pc.index_in(pa.array(range(len(words)), rows.type), means["row"].combine_chunks())
    return pa.chunked_array([means["confidence_mean"].combine_chunks().take(places)])


def _empty() -> pa.Table:
    return pa.schema(NAMES.items()).empty_table()
