"""Text from standard input as it comes: from a pipe one text, from a terminal one for each line."""

import codecs
from collections.abc import Iterator
from typing import TextIO

READ_BYTES = 4096


def typed_text(stdin: TextIO, end_of_text: str) -> Iterator[str]:
    """Pieces of text, and `end_of_text` after each line that a person has typed."""
    if stdin.isatty():
        for line in stdin:
            yield line
            yield end_of_text
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := stdin.buffer.read1(READ_BYTES):  # type: ignore[attr-defined] # of TextIOWrapper
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)
