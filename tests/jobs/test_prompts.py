"""Prompts of manifests reach the clips of their recordings."""

from functools import partial

import numpy as np
import pytest

from nightscribe.audio.decode import DecodeConfig
from nightscribe.jobs.shell.language_prompts import read_prompt
from nightscribe.runs.shards import CutShard, ShardOptions
from nightscribe.storage.locations import S3Config
from tests.documents import ROOT
from tests.storage.records import recording, shards

RATE_HZ = 24_000
SPOKEN = object()


def clip(options=None, **columns):
    options = options or ShardOptions(
        language_prompts={"is": SPOKEN},
        read_prompt=partial(read_prompt, DecodeConfig(), RATE_HZ, S3Config()),
    )
    (shard,) = shards(recording(**columns), 1)
    return options.clip(CutShard(shard, np.ones(10, np.int16)))


def test_a_recording_has_the_prompt_of_its_manifest_before_that_of_its_language():
    assert clip(language="is").prompt is SPOKEN
    assert clip(language="is", prompt="Hearing 12.").prompt.text == "Hearing 12."
    assert clip().prompt is None


def test_a_prompt_file_is_read_at_the_rate_of_the_model():
    heard = clip(prompt_audio=str(ROOT / "samples/bella.opus")).prompt
    assert len(heard.samples_N) == pytest.approx(4.045 * RATE_HZ, rel=0.02)


def test_a_prompt_file_that_is_no_sound_is_one_sentence():
    with pytest.raises(ValueError, match="cannot be decoded"):
        clip(prompt_audio=str(ROOT / "README.md"))


def test_a_worker_without_prompts_does_not_drop_one_in_silence():
    with pytest.raises(ValueError, match="reads no prompts"):
        clip(ShardOptions(), prompt="Hearing 12.")
