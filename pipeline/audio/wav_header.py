"""How long a WAV file says it is: the one thing ffmpeg does not tell of a file that was cut off."""

import struct
from pathlib import Path

STREAMED = (0, 0xFFFFFFFF)  # written by programs that could not know the size
# A file may hold a billion empty chunks; sound comes after a few.
MAX_CHUNKS = 1000


def wav_duration_s(path: Path) -> float | None:
    """Seconds of sound after the header; None for other files and where the header does not say."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF" or file.read(8)[4:] != b"WAVE":
            return None
        bytes_per_s = 0
        for _ in range(MAX_CHUNKS):
            if len(head := file.read(8)) < 8:
                return None
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                return None if size in STREAMED or not bytes_per_s else size / bytes_per_s
            start = file.tell()
            if name == b"fmt " and len(form := file.read(12)) == 12:
                bytes_per_s = struct.unpack_from("<I", form, 8)[0]
            file.seek(start + size + size % 2)
    return None
