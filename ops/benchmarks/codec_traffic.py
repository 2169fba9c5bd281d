"""Operators of a group of Mimi and the bytes that they read and write, counted without a GPU.

    python -m ops.benchmarks.codec_traffic

On torch's meta device, at the published width: 64 streams, 25 frames each, state in and out.
"""

import sys
from collections import Counter
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table
from nightscribe.model.fused_codec import FusedMimi
from nightscribe.model.mimi import Mimi

NUM_ROWS, NUM_FRAMES, NUM_SLOTS = 64, 25, 256


class Traffic(NamedTuple):
    """What one group costs."""

    num_operators: int
    num_bytes: float
    bytes_by_operator: Counter[str]


class _Counting(TorchDispatchMode):
    """Views and new memory move nothing and are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.num_operators, self.num_bytes = 0, Counter[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        written = [one for one in tree_leaves(output) if isinstance(one, torch.Tensor)]
        if not func.is_view and "empty" not in func.name() and (written or func._schema.is_mutable):
            read = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
            self.num_operators += 1
            self.num_bytes[func.name()] += _bytes_of(func.name(), args, read, written)
        return output


def _bytes_of(name: str, args, read: list[torch.Tensor], written: list[torch.Tensor]) -> int:
    """Of what is copied by index, and of slots, only what is read or written."""
    if name.startswith(("aten::index_select", "aten::index.Tensor")):
        return 2 * written[0].nbytes
    if name.startswith(("aten::index_put_", "aten::index_copy_")):
        return 2 * args[-1].nbytes
    if name.startswith("nightscribe::attend_slots"):
        qkv, _, *rings = args[:4]
        read_bytes = sum(ring[:NUM_ROWS].nbytes for ring in rings)
        return 2 * qkv.nbytes + read_bytes + sum(one.nbytes for one in written)
    if name.startswith(("nightscribe::take_pasts", "nightscribe::put_pasts")):
        return 2 * args[0][:NUM_ROWS].nbytes
    return sum(one.nbytes for one in (*read, *written))


def measure_traffic(*, fused: bool) -> Traffic:
    """A group with its state, which is read from all slots and written back."""
    with torch.device("meta"):
        mimi = Mimi(config_of("1b").mimi).eval().requires_grad_(False)
        encode = FusedMimi(mimi).encode_slots if fused else mimi.encode_slots
        state = mimi.initial_state(NUM_SLOTS + 1, NUM_FRAMES)
        num_samples = NUM_FRAMES * mimi.config.frame_samples
        samples_RN = torch.zeros(NUM_ROWS, num_samples, dtype=torch.int16)
        rows = [torch.zeros(NUM_ROWS, dtype=torch.int64) for _ in range(3)]
        with _Counting() as counting, torch.inference_mode():
            encode(samples_RN, state, *rows)
    return Traffic(counting.num_operators, float(counting.num_bytes.total()), counting.num_bytes)


def main() -> None:
    measured = {name: measure_traffic(fused=name == "fused") for name in ("plain", "fused")}
    table = Table(
        title=f"Mimi: a group of {NUM_ROWS} streams, {NUM_FRAMES} frames each",
        columns=("parts", "operators", "GB read and written"),
        rows=[(name, one.num_operators, one.num_bytes / 1e9) for name, one in measured.items()],
    )
    most = measured["fused"].bytes_by_operator.most_common(12)
    by_operator = Table(
        title="Fused, by operator",
        columns=("operator", "GB"),
        rows=[(name, num_bytes / 1e9) for name, num_bytes in most],
    )
    sys.stdout.write(f"{table.markdown()}\n{by_operator.markdown()}")


if __name__ == "__main__":
    main()
