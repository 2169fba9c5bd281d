"""What programs wrote while they worked, kept beside what came of it; each content once."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

FOLDER = "_run/logs"
INDEX_KEY = f"{FOLDER}/index.json"


def publish_logs(store: Store, files: Mapping[str, Path]) -> list[str]:
    """Upload what is new or has grown since the last time; the keys that were written.

    The index, written last, tells the hash of every log that is there.
    """
    known = published_logs(store)
    written = []
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if known.get(name) != sha256:
            store.upload(path, f"{FOLDER}/{name}")
            known[name] = sha256
            written.append(f"{FOLDER}/{name}")
    if written:
        document = json.dumps(known, indent=2, sort_keys=True) + "\n"
        store.write(INDEX_KEY, document.encode())
    return written


def published_logs(store: Store) -> dict[str, str]:
    """The hash of every log by its name."""
    try:
        return json.loads(store.read(INDEX_KEY))
    except StorageError as error:
        if error.reason == "not_found":
            return {}
        raise
