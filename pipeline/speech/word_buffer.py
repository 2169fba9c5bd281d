"""Text as it comes, cut where a word surely ends."""

import re
from dataclasses import dataclass

# A break ends a word, too; the space inside of it does not.
_END_OF_WORD = re.compile(r"<break\s[^<>]{0,30}>|\s")
_OPEN_BREAK = re.compile(r"<(?:b(?:r(?:e(?:a(?:k(?:\s[^<>]{0,30})?)?)?)?)?)?$")


@dataclass(slots=True)
class WordBuffer:
    """Keeps what may be the beginning of a word."""

    _rest: str = ""

    def add(self, text: str) -> str:
        """Everything up to the last word that has surely ended."""
        text = self._rest + text
        opened = _OPEN_BREAK.search(text)
        ends = _END_OF_WORD.finditer(text, 0, opened.start() if opened else len(text))
        end = max((found.end() for found in ends), default=0)
        self._rest = text[end:]
        return text[:end]

    def take_rest(self) -> str:
        """What is left at the end of the text."""
        rest, self._rest = self._rest, ""
        return rest
