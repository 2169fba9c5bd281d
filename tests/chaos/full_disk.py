"""`python -m tests.chaos.full_disk FOLDER`, where it may mount: a run on a disk that is too small.

The disk grows by a little whenever the run ends for lack of space. Prints how often that was.
With a seed after the folder: one attempt in that folder.
"""

import subprocess
import sys
from pathlib import Path

from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.store import Store
from tests import made_up_run
from tests.chaos.tables import tables

MAX_KIB, STEP_KIB = 8192, 48
NO_SPACE = 28


def main(folder: Path) -> None:
    made_up_run.run(store_in(folder / "large"), seed=0)
    disk = folder / "small"
    disk.mkdir()
    mount(disk, STEP_KIB, "size")
    store, num_full = store_in(disk), 0
    for kib in range(STEP_KIB, MAX_KIB, STEP_KIB):
        mount(disk, kib, "remount,size")
        if not is_full(disk, seed=kib):
            break
        num_full += 1
        tables(store)  # whatever a reader sees is whole
        assert not list(disk.rglob(".aside-*"))
    assert tables(store) == tables(store_in(folder / "large"))
    sys.stdout.write(f"{num_full}\n")


def is_full(disk: Path, seed: int) -> bool:
    """Whether one attempt ended for lack of space.

    In an interpreter of its own: this process has threads, which a fork would lack.
    """
    words = [sys.executable, "-m", "tests.chaos.full_disk", str(disk), str(seed)]
    ended = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    assert ended.returncode in (0, NO_SPACE), ended.stderr
    return ended.returncode == NO_SPACE


def attempt(disk: Path, seed: int) -> None:
    try:
        made_up_run.run(store_in(disk), seed)
    except StorageError as error:
        sys.exit(NO_SPACE if error.reason == "no_space" else str(error))


def mount(disk: Path, kib: int, option: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", f"{option}={kib}k", "tmpfs", str(disk)]
    subprocess.run(words, check=True)


def store_in(folder: Path) -> Store:
    return open_store(str(folder), S3Config())


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:
        attempt(Path(sys.argv[1]), int(sys.argv[2]))
