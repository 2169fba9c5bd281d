"""A worker or a driver that hangs ends its run, with the stacks of all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightscribe.runs.watchdog import STALLED_KEY

ROOT = Path(__file__).parent.parent.parent
GIVE_UP_S = 500


@pytest.fixture(scope="module")
def hung(tmp_path_factory):
    """How a run ends of which that part hangs, and its output; two of them hang side by side."""
    place = tmp_path_factory.mktemp("hung")
    running = {part: begin(part, place / part) for part in ("transcriber", "driver")}

    def end(part):
        if part not in running:
            running[part] = begin(part, place / part)
        _, said = running[part].communicate(timeout=GIVE_UP_S)
        return running[part].returncode, said, place / part / "out"

    yield end
    for one in running.values():
        one.kill()
        one.communicate()


def begin(part, place):
    place.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.hanging", part, str(place / "out")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.ray
@pytest.mark.timeout(GIVE_UP_S + 60)
@pytest.mark.parametrize(
    "part",
    [
        "transcriber",
        pytest.param("decoder", marks=pytest.mark.slow),
        pytest.param("publisher", marks=pytest.mark.slow),
    ],
)
def test_a_run_with_a_hanging_worker_ends_with_its_stack(hung, part):
    code, said, output = hung(part)
    assert code == 1, said
    told = (output / STALLED_KEY).read_text()
    assert f"hang_in_the_{part}" in told
    assert "begun and not ended" in told
    status = json.loads((output / "_run/status.json").read_text())
    assert status["state"] == "failed"
    assert "nothing was finished" in status["detail"]


@pytest.mark.ray
@pytest.mark.timeout(GIVE_UP_S + 60)
def test_a_driver_that_hangs_is_ended_with_its_stack(hung):
    code, said, output = hung("driver")
    assert code == 1, said
    for told in (said, (output / STALLED_KEY).read_text()):
        assert "hang_in_the_driver" in told
