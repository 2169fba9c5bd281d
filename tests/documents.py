"""The documents that people read, and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "samples/README.md"]
DOCUMENTS = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def code_blocks(document: Path, language: str = "") -> list[str]:
    """The contents of the fenced blocks of one language, or of none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    return [content for kind, content in fenced if kind == language]


def quoted(document: Path) -> list[str]:
    """What stands in single backquotes on one line, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def lines_of_commands(document: Path) -> list[str]:
    """Every line of a fenced block that runs `nightscribe`; continued lines are one."""
    text = "\n".join(code_blocks(document)).replace("\\\n", " ")
    found = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?nightscribe (\w.*)$", text, re.MULTILINE)
    without_comments = (line.partition(" #")[0].strip() for line in found)
    return [re.sub(r" < [\w./-]+$", "", line) for line in without_comments]
