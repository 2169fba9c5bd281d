"""Joins corpora into one; the files stay where they are.

python -m ops.tiny.merge JOINED CORPUS...
"""

import json
import os
import sys
from pathlib import Path


def merge(joined: Path, corpora: list[Path]) -> None:
    joined.mkdir(parents=True, exist_ok=True)
    manifest = (joined / "manifest.jsonl").open("w", encoding="utf-8")
    phones = (joined / "phones.jsonl").open("w", encoding="utf-8")
    with manifest, phones:
        for corpus in corpora:
            phones.write((corpus / "phones.jsonl").read_text(encoding="utf-8"))
            for line in (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                row["audio"] = os.path.relpath(corpus / row["audio"], joined)
                manifest.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    first, *others = map(Path, sys.argv[1:])
    merge(first, others)
