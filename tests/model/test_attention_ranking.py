"""The fastest backend is measured once for each GPU, versions and sizes."""

import json

import pytest
import torch

from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.model import attention_ranking
from nightscribe.model.attention_ranking import fastest_backend
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.step_runner import StepRunner

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A GPU on which backends take these times; gives which were called."""
    called, times_ms = [], {"slow": 8.0, "fast": 2.0}

    def backend(name):
        def call(queries, keys, values, mask):
            assert mask.newest_B.min() >= mask.context  # every entry is in use
            called.append((name, queries.shape))

        return call

    def elapsed_ms(call):
        call()
        return times_ms[called[-1][0]]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Test")
    monkeypatch.setattr(
        attention_ranking, "backends", lambda keys, mask: ((x, backend(x)) for x in times_ms)
    )
    monkeypatch.setattr(attention_ranking, "_elapsed_ms", elapsed_ms)
    return called


def fastest(num_slots=3, num_queries=1):
    model = random_speech(config_of("toy"), CPU, torch.float32).language_model
    cache = model.empty_cache(num_slots, num_queries)
    before = cache.next_positions_B.clone()
    name = fastest_backend(model.transformer, cache, num_queries, model.dtype)
    assert torch.equal(cache.next_positions_B, before)
    return name


def test_the_fastest_is_measured_once_and_remembered(measured, tmp_path):
    assert fastest() == "fast"
    num_called = len(measured)
    assert num_called > 10
    assert fastest() == "fast"
    assert len(measured) == num_called
    (file,) = (tmp_path / "nightscribe" / "attention").iterdir()
    assert file.name.startswith("NVIDIA-Test_torch-")
    assert list(json.loads(file.read_text()).values()) == ["fast"]


def test_other_sizes_are_measured_anew(measured):
    fastest()
    for sizes in ({"num_slots": 2}, {"num_queries": 2}):
        num_called = len(measured)
        fastest(**sizes)
        assert len(measured) > num_called
        assert measured[-1][1][2] == sizes.get("num_queries", 1)


def test_a_runner_uses_it_if_asked(measured):
    speech = random_speech(config_of("toy"), CPU, torch.float32)
    StepRunner(speech, 2, 3)
    assert speech.language_model.transformer.backend is None
    StepRunner(speech, 2, 3, RunnerOptions(measures_attention=True))
    assert speech.language_model.transformer.backend == "fast"


def test_one_that_fails_is_left_out_and_only_if_all_do_the_start_fails(
    measured, monkeypatch, caplog
):
    def broken(*arguments):
        raise RuntimeError("no such argument")

    both = [("slow", lambda *arguments: measured.append(("slow", None))), ("fast", broken)]
    monkeypatch.setattr(attention_ranking, "backends", lambda keys, mask: iter(both))
    assert fastest() == "slow"
    assert "attention by fast failed" in caplog.text
    del both[0]
    with pytest.raises(RuntimeError, match="no attention backend works here"):
        fastest(num_slots=2)
