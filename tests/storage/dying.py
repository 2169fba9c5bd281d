"""A store whose process is killed, for tests that look at what was left behind."""

import threading
from contextlib import contextmanager


class KilledError(Exception):
    """Stands for the end of the process."""


class DyingStore:
    """A real store that makes some changes, in any thread, and no more after them.

    Before each one `look` is called, for a reader that must not miss anything at any moment. No
    other change is made meanwhile: a file may go between its listing and its reading, which tells
    the reader to look again.
    """

    def __init__(self, store, num_changes, look=lambda: None):
        self._store, self._num_left, self._look = store, num_changes, look
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def write(self, key, data):
        with self._change():
            self._store.write(key, data)

    def write_if_absent(self, key, data):
        with self._change():
            return self._store.write_if_absent(key, data)

    def upload(self, path, key):
        with self._change():
            self._store.upload(path, key)

    def delete(self, key):
        with self._change():
            self._store.delete(key)

    @contextmanager
    def _change(self):
        with self._lock:
            self._look()
            if not self._num_left:
                raise KilledError
            self._num_left -= 1
            yield


def survives(action, store, num_changes, look=lambda: None):
    """Whether the action ends within so many changes; it is killed before the next one."""
    try:
        action(DyingStore(store, num_changes, look))
    except KilledError:
        return False
    return True
