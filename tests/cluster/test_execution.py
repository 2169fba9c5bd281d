"""What an execution tells of a registry that does not answer."""

import logging

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError

from nightscribe.cluster import execution
from nightscribe.cluster.attempt_registry import RegistryReport
from nightscribe.cluster.execution import Execution
from nightscribe.runs.progress import Progress

REPORT = RegistryReport(
    engines=[], time_by_stage={}, num_retries=0, num_open=0, oldest_name="", num_packets_ended=0
)


class Registry:
    """Answers in turn, as a handle of the actor would."""

    def __init__(self, answers) -> None:
        self._answers = iter(answers)
        self.report = self

    def remote(self):
        return next(self._answers)


def answer(given, timeout):
    if isinstance(given, Exception):
        raise given
    return given


@pytest.mark.parametrize(
    ("answers", "num_warnings"),
    [
        ([GetTimeoutError("not ready"), GetTimeoutError("not ready"), REPORT], 0),
        ([REPORT, GetTimeoutError("not ready")], 1),
        ([ActorDiedError()], 1),
    ],
    ids=["still starting", "silent later", "dead at the start"],
)
def test_a_registry_that_is_still_starting_is_no_warning(
    monkeypatch, caplog, answers, num_warnings
):
    monkeypatch.setattr(execution.ray, "get", answer)
    caplog.set_level(logging.INFO)
    progress = Progress(run_id="night", num_recordings=1, estimated_s=1.0)
    working = Execution(publisher=None, index=None, progress=progress, writer=None)
    working._registry = Registry(answers)
    for _ in answers:
        working._collect()
    told = [record for record in caplog.records if "does not answer" in record.message]
    assert len(told) == sum(isinstance(one, Exception) for one in answers)
    assert sum(record.levelno == logging.WARNING for record in told) == num_warnings
