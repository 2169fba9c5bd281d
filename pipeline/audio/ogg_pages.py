"""Whether an Ogg file was cut off, which its header, without a length, cannot tell."""

import os
from pathlib import Path

MARK = b"OggS"
NUM_SEGMENTS_AT = 26
# A header, 255 segments, and as many bytes as those can hold.
MAX_PAGE_BYTES = 27 + 255 + 255 * 255


def ends_within_page(path: Path) -> bool:
    """Whether the last page promises more bytes than the file has; False for other files.

    A file that was cut between two pages cannot be told from a whole one.
    """
    with path.open("rb") as file:
        if file.read(len(MARK)) != MARK:
            return False
        file.seek(max(file.seek(0, os.SEEK_END) - MAX_PAGE_BYTES, 0))
        tail = file.read()
    last = tail.rfind(MARK)
    return last >= 0 and len(tail) - last < _page_bytes(tail[last:])


def _page_bytes(page: bytes) -> int:
    """How long a page is by its own header, as far as that is there."""
    num_segments = page[NUM_SEGMENTS_AT] if len(page) > NUM_SEGMENTS_AT else 0
    first = NUM_SEGMENTS_AT + 1
    return first + num_segments + sum(page[first : first + num_segments])
