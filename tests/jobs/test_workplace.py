"""Where a run is executed: what is small needs no Ray, and what has died before needs workers."""

from types import SimpleNamespace

import pytest

from nightscribe.jobs.shell.config import configurations
from nightscribe.jobs.shell.workplace import (
    SMALL_RECORDINGS,
    SMALL_S,
    Workplace,
    is_small_here,
    may_be_local,
)
from nightscribe.jobs.transcribe import JOB
from nightscribe.runs.progress import Progress

GIVEN = ["input=a", "output=b", "model.checkpoint=c"]


def asked(*words):
    (config,) = configurations(JOB, [*GIVEN, *words])
    return config


def begun(num_left=1, estimated_s=60.0, has_died_before=False, load_here=str):
    progress = Progress(run_id="r", num_recordings=9, estimated_s=estimated_s, num_left=num_left)
    spec = SimpleNamespace(load_here=load_here)
    return SimpleNamespace(progress=progress, has_died_before=has_died_before, spec=spec)


def test_only_little_is_done_here_and_nothing_that_may_have_ended_a_process():
    assert is_small_here(begun(SMALL_RECORDINGS, SMALL_S))
    assert not is_small_here(begun(SMALL_RECORDINGS + 1))
    assert not is_small_here(begun(estimated_s=SMALL_S + 1))
    assert not is_small_here(begun(has_died_before=True))
    assert not is_small_here(begun(load_here=None))


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], {}, True),
        (["cluster.num_audio_workers=1", "cluster.object_store_gib=1"], {}, True),
        (["cluster.in_process=never"], {}, False),
        (["ray.address=auto"], {}, False),
        ([], {"RAY_ADDRESS": "10.0.0.1:6379"}, False),
        (["cluster.num_actors=1"], {}, False),
        (["cluster.drivers=2"], {}, False),
        (["cluster=shared_gpu"], {}, False),
    ],
)
def test_who_asks_for_ray_or_for_workers_gets_them(words, environment, expected):
    assert may_be_local(asked(*words), environment) is expected


class Connected:
    def __init__(self):
        self.is_open = False

    def __call__(self, ray, cluster):
        return self

    def __enter__(self):
        self.is_open = True

    def __exit__(self, *error):
        self.is_open = False


@pytest.mark.parametrize(("words", "is_connected"), [([], False), (["ray.address=a:1"], True)])
def test_a_cluster_is_looked_for_at_once_and_left_at_the_end(monkeypatch, words, is_connected):
    connected = Connected()
    monkeypatch.setattr("nightscribe.cluster.ray_session.connected", connected)
    display = SimpleNamespace(begin=lambda phase: None)
    with Workplace(asked(*words), None, display):
        assert connected.is_open is is_connected
    assert not connected.is_open
