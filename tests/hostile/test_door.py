"""Files that mean harm: each is answered for, within its limits, and leads nowhere else."""

import pytest

from tests.hostile.corpus import MAKERS
from tests.hostile.tracing import STRACE
from tests.hostile.trial import hold, objections, trespasses

EACH = 2  # files of every kind in the default run; `python -m tests.hostile` takes any number


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    return hold(tmp_path_factory.mktemp("hostile"), EACH * len(MAKERS))


@pytest.mark.timeout(600)
def test_every_file_is_answered_for_within_its_limits(trial):
    assert not objections(trial)


@pytest.mark.skipif(STRACE is None, reason="there is no strace to watch with")
def test_nothing_outside_the_input_is_opened_and_no_host_is_asked(trial):
    assert not trespasses(trial)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_files_in_one_run(tmp_path):
    trial = hold(tmp_path, 10_000, seed=1)
    assert not objections(trial)
    assert not trespasses(trial)
