"""Two checkouts are measured in one process, each with its own code."""

import os
import sys
from math import isclose

import pytest

from ops.benchmarks.checkouts import Checkout, in_a_fork, ratio_with_interval, row_of, samples

MODULE = "nightscribe/benchmarks/measurements.py"
EARLY = "nightscribe.benchmarks.measurements"


@pytest.fixture
def checkouts(tmp_path):
    """Of two folders, whose modules say where they are; `late` is imported by a call."""
    for name in ("before", "after"):
        folder = tmp_path / name / "nightscribe/benchmarks"
        folder.mkdir(parents=True)
        for package in (folder, folder.parent):
            (package / "__init__.py").touch()
        (folder / "late.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / MODULE).write_text(
            "def name():\n    from nightscribe.benchmarks import late\n    return late.NAME\n"
        )
    return [Checkout(tmp_path / name) for name in ("before", "after")]


def test_each_runs_its_own_code_also_what_a_call_imports(checkouts):
    outside = {name: module for name, module in sys.modules.items() if name.startswith("ops")}
    found, said = [], []
    for checkout in checkouts:
        with checkout.code():
            __import__(EARLY)
            found.append(sys.modules[EARLY].name)
    for checkout, name in zip(checkouts, found, strict=True):
        checkout.seconds_of(lambda name=name: said.append(name()))
    assert said == ["before", "after"]
    assert outside.items() <= sys.modules.items()
    assert not any("before" in path or "after" in path for path in sys.path)


def test_a_process_is_forked_for_each_sample():
    assert in_a_fork(lambda: [os.getpid(), 1.5]) != [os.getpid(), 1.5]


def test_every_second_process_begins_with_the_other(monkeypatch):
    seconds = {"other": 3.0, "this": 2.0}

    def least_of_each(order, name):
        return [seconds[one] + index for index, one in enumerate(order)]

    monkeypatch.setattr("ops.benchmarks.checkouts.least_of_each", least_of_each)
    assert list(samples(["other", "this"], "step", 2)) == [(3.0, 3.0), (4.0, 2.0)]


def test_the_interval_holds_the_mean_and_narrows_with_more_processes():
    middle, low, high = ratio_with_interval([0.5, 2.0] * 4)
    assert isclose(middle, 1)
    assert low < 1 < high
    _, lower, higher = ratio_with_interval([0.5, 2.0])
    assert lower < low
    assert high < higher
    assert row_of("step", [(0.2, 0.1), (0.4, 0.2)]).startswith("| step | 300.0 | 150.0 | 2.000 |")
