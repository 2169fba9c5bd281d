"""Files of workers that are gone do not pile up, and no living worker loses its own."""

import subprocess
import sys
import threading

from nightscribe.cluster.stack_dumps import claim, remove_if_dead

CLAIM_AND_WAIT = """
import sys
from pathlib import Path
from nightscribe.cluster.stack_dumps import claim

file = claim(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_file_goes_with_its_worker_and_not_before(tmp_path):
    path = tmp_path / "1234"
    command = [sys.executable, "-c", CLAIM_AND_WAIT, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout.readline() == b"claimed\n"
        assert not remove_if_dead(path)
        assert path.exists()
        worker.kill()
    assert remove_if_dead(path)
    assert not path.exists()


def test_a_file_that_is_gone_is_no_ones(tmp_path):
    assert remove_if_dead(tmp_path / "1234")


def test_a_claim_outlives_whoever_removes_files_meanwhile(tmp_path):
    path, is_over = tmp_path / "1234", threading.Event()

    def remove() -> None:
        while not is_over.is_set():
            remove_if_dead(path)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(300):
            with claim(path) as file:
                file.write(b"here")
                assert path.read_bytes().endswith(b"here")
    finally:
        is_over.set()
        remover.join()
