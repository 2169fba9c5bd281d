"""Files of a run that are not whole: which one it is, in one sentence."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nightscribe.errors import NightscribeError
from nightscribe.storage.store import Store


class DamagedError(NightscribeError):
    """A file that cannot be read as what it is."""

    fault = "environment"

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri}: the file is damaged, or was copied in part")


@contextmanager
def damage_named(uri: str) -> Iterator[None]:
    """Turn what a parser raises inside into a DamagedError about this file."""
    try:
        yield
    except ValueError:  # of json and of Arrow
        raise DamagedError(uri) from None
    except OSError as error:
        if error.errno is not None:  # of the disk, not of Arrow
            raise
        raise DamagedError(uri) from None


def read_json(store: Store, key: str) -> Any:
    """The document of a file."""
    data = store.read(key)
    with damage_named(store.uri(key)):
        return json.loads(data)
