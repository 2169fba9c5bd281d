"""Lists every object under a prefix: folders in parallel, in order, a few pages in memory.

Knows the pages of the S3 list call, not how they are requested.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Full, Queue
from typing import Any

PAGES_AHEAD = 4
PARALLEL_FOLDERS = 16
# An archive with a folder for each recording is listed faster as one.
MAX_FOLDERS = 256

Page = dict[str, Any]
FetchPage = Callable[[str, str, dict[str, str]], Page]  # prefix, delimiter, where to continue


def list_objects(fetch_page: FetchPage, prefix: str) -> Iterator[Page]:
    """The objects in the order of their keys, if the server keeps it within a folder."""
    page = fetch_page(prefix, "/", {})
    while _is_one_folder(page):
        prefix = page["CommonPrefixes"][0]["Prefix"]
        page = fetch_page(prefix, "/", {})
    trees = _parallel_trees(page) or [prefix]
    for objects in _in_order(trees, lambda tree: _pages(fetch_page, tree)):
        yield from (found for found in objects if not found["Key"].endswith("/"))


def _is_one_folder(page: Page) -> bool:
    more = page.get("Contents") or page.get("IsTruncated")
    return len(page.get("CommonPrefixes", [])) == 1 and not more


def _parallel_trees(page: Page) -> list[str | Page]:
    """The folders and files directly under the prefix; empty if there are too many."""
    folders = [found["Prefix"] for found in page.get("CommonPrefixes", [])]
    if page.get("IsTruncated") or not 2 <= len(folders) <= MAX_FOLDERS:
        return []
    files: list[str | Page] = list(page.get("Contents", []))
    return sorted([*files, *folders], key=lambda it: it if isinstance(it, str) else it["Key"])


def _pages(fetch_page: FetchPage, prefix: str) -> Iterator[list[Page]]:
    token: dict[str, str] = {}
    while True:
        page = fetch_page(prefix, "", token)
        yield page.get("Contents", [])
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def _in_order(
    trees: Iterable[str | Page], pages: Callable[[str], Iterator[list[Page]]]
) -> Iterator[list[Page]]:
    """The pages of every tree in turn, while the next trees are already read."""
    stop = threading.Event()
    ahead: deque[Iterator[list[Page]]] = deque()
    try:
        for tree in trees:
            ahead.append(
                _read_ahead(pages(tree), stop) if isinstance(tree, str) else iter([[tree]])
            )
            if len(ahead) == PARALLEL_FOLDERS:
                yield from ahead.popleft()
        while ahead:
            yield from ahead.popleft()
    finally:
        stop.set()


def _read_ahead(pages: Iterator[list[Page]], stop: threading.Event) -> Iterator[list[Page]]:
    """The same pages, read a few ahead by a thread that ends with `stop`."""
    found: Queue[list[Page] | BaseException | None] = Queue(PAGES_AHEAD)
    threading.Thread(target=_fill, args=(found, pages, stop), daemon=True).start()
    return _drained(found)


def _drained(found: Queue[list[Page] | BaseException | None]) -> Iterator[list[Page]]:
    while (page := found.get()) is not None:
        if isinstance(page, BaseException):
            raise page
        yield page


def _fill(
    found: Queue[list[Page] | BaseException | None],
    pages: Iterator[list[Page]],
    stop: threading.Event,
) -> None:
    def put(page: list[Page] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return found.put(page, timeout=0.5)
            except Full:
                continue

    try:
        for page in pages:
            put(page)
            if stop.is_set():
                return
    except Exception as error:
        put(error)
    put(None)
