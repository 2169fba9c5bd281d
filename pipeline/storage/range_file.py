"""A remote file that is read here and there."""

import io
import os
from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]  # first byte, number of bytes


class RangeFile(io.RawIOBase):
    """Reads only what is asked for; every read is one request."""

    def __init__(self, size_bytes: int, read_at: ReadAt) -> None:
        self._size_bytes = size_bytes
        self._read_at = read_at
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}
        self._position = origin[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        num_bytes = min(len(buffer), max(self._size_bytes - self._position, 0))
        if num_bytes:
            buffer[:num_bytes] = self._read_at(self._position, num_bytes)
        self._position += num_bytes
        return num_bytes
