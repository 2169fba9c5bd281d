"""Who serves may use any voice; strangers may name those of the repository alone."""

import shutil

import numpy as np
import pytest

from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
from nightscribe.speech.voices import MAX_REMEMBERED, Voices
from tests.model.tts import peer
from tests.speech.checkpoints import PROMPT, VOICE_SUFFIX, write_speech_checkpoint, write_voice


@pytest.fixture
def voices(tmp_path, monkeypatch):
    """The voice ann in the repository, and bob outside of it, in the working directory."""
    folder = write_speech_checkpoint(tmp_path / "model")
    (tmp_path / "voices").mkdir()
    write_voice(tmp_path / "voices", "ann", 1)
    write_voice(tmp_path, "bob", 2)
    monkeypatch.chdir(tmp_path)
    checkpoint = open_speech_checkpoint(str(folder))
    return Voices(checkpoint, str(tmp_path / "voices"), lambda path: pytest.fail(str(path)))


def test_a_stranger_may_name_a_voice_of_the_repository_and_no_other_file(voices, tmp_path):
    assert voices.published("ann") is voices["ann"]
    shutil.copy(f"bob{VOICE_SUFFIX}", "whole.safetensors")
    outside = [
        *("bob", f"bob{VOICE_SUFFIX}", str(tmp_path / "bob"), "../bob", "../whole.safetensors"),
        *("hf://somebody/voices/bob.safetensors", "", ".", "nobody", "x" * 5000, "a\0b"),
    ]
    for name in outside:
        with pytest.raises(CheckpointError, match=r"^there is no voice .{0,210}$") as refused:
            voices.published(name)
        assert str(tmp_path) not in str(refused.value).replace(repr(name), "")


def test_who_serves_may_use_any_file_and_share_it(voices):
    with pytest.raises(CheckpointError):
        voices.published("bob")
    shared = voices["bob"]
    assert voices.published("bob") is shared


def test_the_voice_of_a_client_is_for_nobody_else(voices):
    name = voices.add("text-0", peer.random_voice(3)[None])
    assert voices[name].vectors_WT is not None
    with pytest.raises(CheckpointError, match="there is no voice"):
        voices.published(name)
    voices.remove(name)
    with pytest.raises(CheckpointError, match="there is no voice"):
        voices[name]


def test_names_of_no_voice_take_no_more_memory_than_some(voices):
    for number in range(MAX_REMEMBERED + 5):
        with pytest.raises(CheckpointError):
            voices.published(f"nobody-{number}")
    assert len(voices._failed) <= MAX_REMEMBERED


@pytest.mark.parametrize(("num_samples", "num_frames"), [(5 * 1920, 3), (5 * 1920 + 1, 4)])
def test_a_recording_is_continued_without_its_last_two_frames(tmp_path, num_samples, num_frames):
    folder = write_speech_checkpoint(tmp_path, PROMPT)
    (folder / "me.wav").touch()
    checkpoint = open_speech_checkpoint(str(folder))
    voices = Voices(checkpoint, str(folder), lambda path: np.ones(num_samples, np.int16))
    prompt_PK = voices["me.wav"].prompt_PK
    assert prompt_PK is not None
    assert prompt_PK.shape == (num_frames, PROMPT.num_codebooks)
