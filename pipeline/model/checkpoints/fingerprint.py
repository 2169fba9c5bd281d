"""Tells two local checkpoints apart without reading them whole."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

NUM_SAMPLED_BLOCKS = 256
BLOCK_BYTES = 4096


def fingerprint(paths: Iterable[Path]) -> str:
    """The same for the same files; blocks all over each file, and its size, go into it."""
    digest = hashlib.sha256()
    for path in paths:
        size_bytes = path.stat().st_size
        digest.update(f"{path.name}:{size_bytes}\n".encode())
        with path.open("rb") as file:
            for start in _block_starts(size_bytes):
                file.seek(start)
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:40]


def _block_starts(size_bytes: int) -> Iterable[int]:
    stride = max(BLOCK_BYTES, size_bytes // NUM_SAMPLED_BLOCKS)
    return range(0, size_bytes, stride)
