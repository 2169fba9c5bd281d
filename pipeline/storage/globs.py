"""Names with `*`, `?`, `[...]` and `**`, matched against keys."""

import re
from functools import lru_cache

MAGIC = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", re.DOTALL)


def has_magic(name: str) -> bool:
    return MAGIC.search(name) is not None


def fixed_folder(pattern: str) -> str:
    """The folders before the first one with magic in its name, with a final slash."""
    return MAGIC.split(pattern, maxsplit=1)[0].rpartition("/")[0] + "/"


@lru_cache
def matcher(pattern: str) -> re.Pattern[str]:
    """A star stays within its folder; two stars cross folders."""
    return re.compile("".join(map(_expression, _TOKEN.findall(pattern))))


def _expression(token: str) -> str:
    if token.startswith("[") and len(token) > 1:
        inside = token[1:-1].replace("\\", "\\\\")
        return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return known.get(token, re.escape(token))
