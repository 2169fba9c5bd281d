"""A reader of a table whose rows are replaced, that misses nothing and never sees half of it."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store
from tests.chaos.tables import keys, read

LOOK_S = 0.3

Content = tuple[str, str, str]
Place = tuple[str, int]  # a file of the archive and a revision


class Reader:
    """Reads all transcripts again and again, as a plain glob does, until it is left.

    `texts` has what each model says of each file; `grace_s` is how long a file stays beside
    those that replace it. A reader that lists later may find a file gone, and lists again.
    """

    def __init__(self, store: Store, texts: Mapping[Content, str], grace_s: float) -> None:
        self.complaints: list[str] = []
        self.num_looks = self.num_interrupted = 0
        self._store, self._texts, self._grace_s = store, texts, grace_s
        self._newest: dict[str, int] = {}  # the revision that was seen last, by file
        self._gone: set[str] = set()
        self._places: dict[str, set[Place]] = {}  # that were read, by key
        self._unseen_at_s: dict[str, float] = {}  # when the last listing without it began, by key
        self._listed_at_s = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def expect_gone(self, uris: set[str]) -> None:
        """From now on these may be missing."""
        with self._lock:
            self._gone |= uris

    def _look_on(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                self._look()
            time.sleep(LOOK_S)

    def _look(self) -> None:
        rows, missing = self._read(self._listed())
        for key in missing:
            if not self._may_be_gone(key, time.monotonic()):
                self._complain(f"{key} is gone sooner than a reader may expect")
        if missing:
            self.num_interrupted += 1
            return
        self.num_looks += 1
        found = defaultdict(list)
        for row in rows:
            found[row["uri"]].append(row)
            if text_of(row) != self._texts.get(content_of(row)):
                self._complain(f"{row['uri']} of revision {row['revision']} has other words")
        for complaint in self._compared(found):
            self._complain(complaint)

    def _listed(self) -> list[str]:
        began_s = time.monotonic()
        listed = list(keys(self._store, "transcripts"))
        for key in listed:
            self._unseen_at_s.setdefault(key, self._listed_at_s)
        self._listed_at_s = began_s
        return listed

    def _read(self, listed: list[str]) -> tuple[list[dict], list[str]]:
        """All rows, and the keys that are not there any more."""
        rows, missing = [], []
        for key in listed:
            try:
                found = read(self._store, key).to_pylist()
            except StorageError as error:
                if error.reason != "not_found":
                    self._complain(f"a file that was just listed cannot be read: {error}")
                missing.append(key)
                continue
            self._places[key] = {(row["uri"], row["revision"]) for row in found}
            rows += found
        return rows, missing

    def _may_be_gone(self, key: str, now_s: float) -> bool:
        """Unless all that replaces a row came so late that the file went too soon."""
        return all(
            any(now_s - self._unseen_at_s[one] >= self._grace_s for one in self._with(place, key))
            for place in self._places.get(key, ())
            if place[0] not in self._gone
        )

    def _with(self, place: Place, key: str) -> Iterator[str]:
        """The other files that have the row or a newer one."""
        uri, revision = place
        for other, places in self._places.items():
            if other != key and any(one == uri and new >= revision for one, new in places):
                yield other

    def _compared(self, found: Mapping[str, list[dict]]) -> Iterator[str]:
        """With what was seen before."""
        for uri in self._newest.keys() - found.keys() - self._gone:
            yield f"{uri} is missing"
        for uri, rows in found.items():
            newest = max(row["revision"] for row in rows)
            if newest < self._newest.get(uri, 0):
                yield f"{uri} went back to revision {newest}"
            names = {row["recording_id"] for row in rows if row["revision"] == newest}
            if len(names) > 1:
                yield f"{uri} has two recordings of revision {newest}"
            self._newest[uri] = newest

    def _complain(self, complaint: str) -> None:
        if complaint not in self.complaints:
            self.complaints.append(complaint)


def content_of(row: Mapping) -> Content:
    """What a transcript depends on, wherever its archive lies."""
    return row["uri"].rpartition("/")[2], row["version"], row["model"]


def text_of(row: Mapping) -> str:
    return " ".join(word["text"] for word in row["words"])
