"""A store whose process is killed, for tests that look at what was left behind."""

import threading


class KilledError(Exception):
    """Stands for the end of the process."""


class DyingStore:
    """A real store that makes some changes, in any thread, and no more after them.

    Before each one `look` is called, for a reader that must not miss anything at any moment.
    """

    def __init__(self, store, num_changes, look=lambda: None):
        self._store, self._num_left, self._look = store, num_changes, look
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def write(self, key, data):
        self._count_change()
        self._store.write(key, data)

    def write_if_absent(self, key, data):
        self._count_change()
        return self._store.write_if_absent(key, data)

    def upload(self, path, key):
        self._count_change()
        self._store.upload(path, key)

    def delete(self, key):
        self._count_change()
        self._store.delete(key)

    def _count_change(self):
        self._look()
        with self._lock:
            if not self._num_left:
                raise KilledError
            self._num_left -= 1


def survives(action, store, num_changes, look=lambda: None):
    """Whether the action ends within so many changes; it is killed before the next one."""
    try:
        action(DyingStore(store, num_changes, look))
    except KilledError:
        return False
    return True
