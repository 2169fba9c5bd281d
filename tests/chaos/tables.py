"""What readers see of an output, and a reader that looks all the time."""

import io
import threading
import time
import wave
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.store import Store
from nightscribe.storage.tables import read_rows

RATE_HZ = 24_000
LOOK_S = 0.2


def store_at(output: str, endpoint: str | None) -> Store:
    return open_store(output, S3Config(endpoint=endpoint))


def archive(store: Store, num_recordings: int, seed: int = 0) -> None:
    """Recordings of one to eight seconds, and one that is none."""
    random = np.random.default_rng(seed)
    for number in range(num_recordings):
        store.write(f"{number:04d}.wav", sound(random, random.uniform(1.0, 8.0)))
    store.write("broken.wav", b"not a recording")


def sound(random: np.random.Generator, duration_s: float) -> bytes:
    samples_N = random.integers(-3000, 3000, round(duration_s * RATE_HZ)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes(samples_N.tobytes())
    return file.getvalue()


def rows(store: Store, table: str) -> list[dict]:
    """One of the tables, without what tells when it was written."""
    found = [row for key in keys(store, table) for row in read(store, key).to_pylist()]
    return sorted(found, key=lambda row: (row["recording_id"], row.get("shard") or -1))


def tables(store: Store) -> tuple[list[dict], list[dict]]:
    return rows(store, "transcripts"), rows(store, "failures")


def keys(store: Store, table: str) -> Iterator[str]:
    return (entry.key for entry in store.entries(f"{table}/") if entry.key.endswith(".parquet"))


def read(store: Store, key: str) -> pa.Table:
    return read_rows(store, key)


class Watcher:
    """Reads the transcripts all the while, as somebody does who cannot wait for the morning."""

    def __init__(self, store: Store) -> None:
        self.complaints: list[str] = []
        self.num_looks = 0
        self._store = store
        self._file_of: dict[str, str] = {}
        self._seen: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._ended.is_set():
            for key in keys(self._store, "transcripts"):
                if key not in self._seen:
                    self._look_at(key)
            self.num_looks += 1
            time.sleep(LOOK_S)

    def _look_at(self, key: str) -> None:
        self._seen.add(key)
        try:
            names = read(self._store, key)["recording_id"].to_pylist()
        except Exception as error:
            self.complaints.append(f"{key} cannot be read: {error}")
            return
        for name in names:
            if name in self._file_of:
                self.complaints.append(f"{name} is in {self._file_of[name]} and in {key}")
            self._file_of[name] = key
