"""Text that a person wrote, in UTF-8: what is not is named in one sentence."""

from pathlib import Path


def read_text(path: Path) -> str:
    """The text of a file, with or without a byte order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return text_of(data, str(path))


def text_of(data: bytes, name: str) -> str:
    """The text of these bytes of a file of that name."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not in UTF-8; save it as UTF-8") from None
