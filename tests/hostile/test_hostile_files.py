"""Hostile files: each has a result within the limits, and opens no other file or host."""

import pytest

from tests.hostile.checks import foreign_calls, problems, run_corpus
from tests.hostile.corpus import MAKERS
from tests.hostile.tracing import STRACE

EACH = 2  # files of every kind in the default run; `python -m tests.hostile` takes any number


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_corpus(tmp_path_factory.mktemp("hostile"), EACH * len(MAKERS))


@pytest.mark.timeout(600)
def test_every_file_has_a_result_within_the_limits(run):
    assert not problems(run)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_file_outside_the_input_and_no_host_is_opened(run):
    assert not foreign_calls(run)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_files_in_one_run(tmp_path):
    run = run_corpus(tmp_path, 10_000, seed=1)
    assert not problems(run)
    assert not foreign_calls(run)
