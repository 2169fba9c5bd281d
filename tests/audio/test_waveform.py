"""A file, a channel of it or a span of it as one waveform."""

import time
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import Excerpt, read_waveform

RATE_HZ = 24_000


@pytest.fixture
def stereo(tmp_path):
    """Two seconds: a file and its samples."""
    shape = 2 * RATE_HZ, 2
    samples_NC = np.random.default_rng(0).integers(-9000, 9000, shape).astype(np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples_NC.tobytes())
    return tmp_path / "a.wav", samples_NC


def test_a_span_of_a_channel_is_those_samples(stereo):
    path, samples_NC = stereo
    heard_N, outcome = read_waveform(
        path, DecodeConfig(block_s=0.3), RATE_HZ, channel=1, start_s=0.5, end_s=1.25
    )
    assert np.array_equal(heard_N, samples_NC[RATE_HZ // 2 : RATE_HZ * 5 // 4, 1])
    whole_N, outcome = read_waveform(path, DecodeConfig(), RATE_HZ, channel=0)
    assert np.array_equal(whole_N, samples_NC[:, 0])
    assert (outcome.status, outcome.duration_s) == ("ok", 2.0)


@pytest.mark.parametrize(("end_s", "ends_early"), [(None, False), (3.0, False), (1.0, True)])
def test_only_a_span_that_ends_within_the_file_ends_early(end_s, ends_early):
    excerpt = Excerpt(0.0, end_s, 10)
    list(excerpt.inside([np.zeros(8, np.int16), np.zeros(12, np.int16)]))
    assert excerpt.ends_early == ends_early


def test_a_span_behind_the_end_is_empty(stereo):
    heard_N, _ = read_waveform(stereo[0], DecodeConfig(), RATE_HZ, start_s=3.0)
    assert heard_N.shape == (0,)


def test_a_span_is_read_without_waiting_for_the_rest_of_the_file(tmp_path):
    path, config = tmp_path / "long.wav", DecodeConfig(block_s=0.3, stall_s=30.0)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(bytes(2 * 300 * RATE_HZ))
    began_s = time.monotonic()
    span_N, outcome = read_waveform(path, config, RATE_HZ, end_s=1.0)
    assert len(span_N) == RATE_HZ
    assert (outcome.status, outcome.duration_s) == ("ok", 1.0)
    assert time.monotonic() - began_s < config.stall_s / 2


@given(
    blocks=st.lists(st.integers(0, 9), max_size=8),
    start=st.integers(0, 40),
    length=st.none() | st.integers(1, 40),
)
def test_an_excerpt_does_not_depend_on_the_blocks(blocks, start, length):
    samples_N = np.arange(sum(blocks), dtype=np.int16)
    end = None if length is None else start + length
    excerpt = Excerpt(start, end, 1)
    parts = np.split(samples_N, np.cumsum(blocks)[:-1]) if blocks else []
    inside_N = np.concatenate([samples_N[:0], *excerpt.inside(parts)])
    assert np.array_equal(inside_N, samples_N[start:end])
    assert excerpt.duration_s == len(inside_N)


@pytest.mark.parametrize("name", ["block_s", "max_recording_s", "stall_s", "max_memory_bytes"])
def test_limits_of_a_decoding_are_positive(name):
    with pytest.raises(ValueError, match=f"decode.{name} must be positive, got 0"):
        DecodeConfig(**{name: 0})
