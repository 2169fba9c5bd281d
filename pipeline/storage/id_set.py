"""The ids of a million recordings in a few megabytes."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nightscribe.records import ID_HEX_DIGITS

KEY_TYPE = np.dtype("S12")  # ten bytes of the id, two of the channel
MIN_RECENT = 4096
RECENT_SHARE = 0.1


class IdSet:
    """A set of recording ids: a sorted array of twelve bytes each, and the latest as a set."""

    def __init__(self) -> None:
        self._sorted_N = np.zeros(0, KEY_TYPE)
        self._recent: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._sorted_N) + len(self._recent)

    def __contains__(self, recording_id: str) -> bool:
        key = _key(recording_id)
        return key in self._recent or bool(self._are_sorted(np.array([key], KEY_TYPE))[0])

    def add(self, recording_id: str) -> None:
        self.update([recording_id])

    def update(self, recording_ids: Iterable[str]) -> None:
        self._recent.update(map(_key, recording_ids))
        if len(self._recent) > max(MIN_RECENT, RECENT_SHARE * len(self._sorted_N)):
            self._settle()

    def contains(self, recording_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which of many ids are in the set."""
        self._settle()
        return self._are_sorted(_keys(recording_ids))

    def _settle(self) -> None:
        if not self._recent:
            return
        recent_N = np.sort(np.array(list(self._recent), KEY_TYPE))
        keys_N = np.concatenate([self._sorted_N, recent_N])
        keys_N.sort(kind="stable")  # which merges two sorted runs without sorting them again
        is_first_N = np.ones(len(keys_N), bool)
        is_first_N[1:] = keys_N[1:] != keys_N[:-1]
        self._sorted_N, self._recent = keys_N[is_first_N], set()

    def _are_sorted(self, keys_N: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        if not len(self._sorted_N):
            return np.zeros(len(keys_N), bool)
        places_N = np.searchsorted(self._sorted_N, keys_N)
        return self._sorted_N[np.minimum(places_N, len(self._sorted_N) - 1)] == keys_N


def _keys(recording_ids: Sequence[str]) -> NDArray[np.bytes_]:
    """All at once where none is of a channel: a plan has millions."""
    digits = "".join(recording_ids)
    if len(digits) != len(recording_ids) * ID_HEX_DIGITS or "-" in digits:
        return np.array([_key(name) for name in recording_ids], KEY_TYPE)
    keys_NB = np.zeros((len(recording_ids), KEY_TYPE.itemsize), np.uint8)
    ids_NB = np.frombuffer(bytes.fromhex(digits), np.uint8)
    keys_NB[:, : ID_HEX_DIGITS // 2] = ids_NB.reshape(-1, ID_HEX_DIGITS // 2)
    return keys_NB.reshape(-1).view(KEY_TYPE)


def _key(recording_id: str) -> bytes:
    source, _, channel = recording_id.partition("-")
    number = int(channel) + 1 if channel else 0
    return bytes.fromhex(source[:ID_HEX_DIGITS]) + number.to_bytes(2, "big")
