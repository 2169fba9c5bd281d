"""Text as it comes, cut where a word surely ends."""

import re
from dataclasses import dataclass

# A tag holds a space, and may come in two pieces.
_OPEN_TAG = re.compile(r"<[^>]{0,40}$")
_WHITE_SPACE = re.compile(r"\s")


@dataclass(slots=True)
class WordBuffer:
    """Keeps what may be the beginning of a word."""

    _rest: str = ""

    def add(self, text: str) -> str:
        """Everything up to the last word that has surely ended."""
        text = self._rest + text
        tag = _OPEN_TAG.search(text)
        end = max(
            (
                found.end()
                for found in _WHITE_SPACE.finditer(text, 0, tag.start() if tag else len(text))
            ),
            default=0,
        )
        self._rest = text[end:]
        return text[:end]

    def take_rest(self) -> str:
        """What is left at the end of the text."""
        rest, self._rest = self._rest, ""
        return rest
