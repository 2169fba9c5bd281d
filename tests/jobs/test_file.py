"""`nightscribe file` as a user runs it."""

import io
import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from nightscribe.jobs.file import (
    JOB,
    FileConfig,
    FileTranscript,
    written,
)
from nightscribe.jobs.shell.command import run_job
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.records import Word
from tests.model.checkpoints.weights import random_weights, write_native

RATE_HZ = 24000
WORDS = [Word("so", 0.1, 0.4, 0.98765), Word("it\u2019s", 0.4, 1.23456, 0.5)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights: every sample changes what they say."""
    pytest.importorskip("moshi")
    return write_native(tmp_path_factory.mktemp("checkpoint"), random_weights())


@pytest.fixture(scope="module")
def config(checkpoint):
    return open_model(ModelConfig(checkpoint=str(checkpoint))).config


def babble(duration_s: float, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades as speech does."""
    times_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(seed).standard_normal(len(times_s))
    return (noise * 4000 * np.abs(np.sin(9 * times_s))).astype(np.int16)


def wav(path: Path, *channels: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.stack(channels, axis=1).astype("<i2").tobytes())
    return path


@pytest.fixture
def said(capsys, checkpoint):
    """Run the command: exit code, stdout, stderr."""

    def run(*words):
        arguments = [f"model.checkpoint={checkpoint}", "engine=cpu", *map(str, words)]
        with pytest.raises(SystemExit) as ended:
            run_job("file", lambda: JOB, arguments)
        return ended.value.code, *capsys.readouterr()

    return run


# A model of chance says nonsense; what these tests ask is something else.
UNSUSPECTING = (
    "guards.quietest_speech_dbfs=0",
    "guards.loudest_noise_dbfs=0",
    "guards.min_silent_words=100000",
    "guards.min_simultaneous_words=100000",
    "guards.min_loop_words=100000",
)


def heard(said, *words):
    code, out, err = said("format=json", "tokens=true", *UNSUSPECTING, *words)
    transcript = json.loads(out)
    assert (code, err.endswith("no words were recognised\n")) == (0, not transcript["words"])
    assert err.count("\n") == (not transcript["words"])
    return transcript


def test_json_has_the_documented_fields_and_a_token_for_every_frame(said, tmp_path, config):
    samples_N = babble(1.21)
    transcript = heard(said, wav(tmp_path / "a.wav", samples_N))
    assert len(set(transcript["tokens"])) > 5
    assert transcript["words"]
    assert list(transcript) == ["uri", "duration_s", "text", "words", "tokens"]
    assert transcript["uri"] == str(tmp_path / "a.wav")
    assert transcript["duration_s"] == 1.21
    assert len(transcript["tokens"]) == config.num_frames(len(samples_N))
    assert transcript["text"] == " ".join(word["text"] for word in transcript["words"])
    for word in transcript["words"]:
        assert list(word) == ["text", "start_s", "end_s", "confidence"]
        assert 0 <= word["start_s"] <= word["end_s"] <= 1.21
        assert 0 <= word["confidence"] <= 1


def test_a_channel_is_transcribed_as_a_file_of_its_own(said, tmp_path):
    left, right = babble(1, seed=1), babble(1, seed=2)
    both = wav(tmp_path / "both.wav", left, right)
    alone = wav(tmp_path / "right.wav", right)
    second = heard(said, both, "channel=1")["tokens"]
    assert second == heard(said, alone)["tokens"]
    assert second != heard(said, both, "channel=0")["tokens"]
    code, out, err = said(both, "channel=2")
    assert (code, out) == (2, "")
    assert "there is no channel 2" in err


def test_words_where_nobody_speaks_are_reported(said, tmp_path):
    path = wav(tmp_path / "a.wav", babble(1, seed=3))
    deaf = ("guards.quietest_speech_dbfs=0", "guards.loudest_noise_dbfs=0")
    code, out, err = said("format=json", "guards.min_silent_words=1", *deaf, path)
    assert code == 0
    assert len(json.loads(out)["words"]) >= 1
    assert f"nightscribe: {path}: hallucination at" in err


def test_a_pipe_gives_the_tokens_of_the_file(said, tmp_path, monkeypatch):
    path = wav(tmp_path / "a.wav", babble(1))
    piped = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
    monkeypatch.setattr("sys.stdin", piped)
    assert heard(said, "-")["tokens"] == heard(said, path)["tokens"]


def test_an_audio_prompt_adds_frames_but_no_time(said, tmp_path, config):
    path = wav(tmp_path / "a.wav", babble(1, seed=3))
    example = wav(tmp_path / "example.wav", babble(1, seed=4))
    alone = heard(said, path)
    prompted = heard(said, path, f"prompt.audio={example}")
    assert len(prompted["tokens"]) == len(alone["tokens"]) + 13 + 10
    assert all(word["end_s"] <= 1 for word in prompted["words"])


def test_a_text_prompt_is_not_in_the_transcript(said, tmp_path):
    path = wav(tmp_path / "a.wav", babble(1, seed=5))
    prompted = heard(said, path, "prompt.text=one two")
    assert prompted["tokens"] != heard(said, path)["tokens"]
    assert "one two" not in prompted["text"]


def test_the_delay_can_be_set(said, tmp_path, config):
    path = wav(tmp_path / "a.wav", babble(0.5))
    longer = config.delay_steps + 7
    late = heard(said, path, f"model.delay_steps={longer}")
    assert len(late["tokens"]) > len(heard(said, path)["tokens"])


def test_a_truncated_file_is_transcribed_and_reported_as_incomplete(said, tmp_path):
    whole = wav(tmp_path / "whole.wav", babble(2))
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:RATE_HZ])
    code, out, err = said(cut, "format=json")
    assert code == 0
    assert json.loads(out)["duration_s"] == pytest.approx(0.5, abs=0.01)
    assert err.startswith(f"nightscribe: {cut} is incomplete: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("page.mp3", b"<!doctype html><html><body>Sign in</body></html>" * 50, "not_audio"),
        ("empty.wav", b"", "empty"),
        ("absent.wav", None, "there is no such file"),
    ],
)
def test_a_file_that_is_not_audio_is_refused_in_one_sentence(said, tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = said(tmp_path / name)
    assert (code, out) == (2, "")
    assert name in err
    assert reason in err
    assert err.count("\n") == 1


def test_for_a_folder_another_command_is_named(said, tmp_path):
    code, _, err = said(tmp_path)
    assert code == 2
    assert err == (
        f"nightscribe: {tmp_path} is a folder; use nightscribe transcribe input={tmp_path}\n"
    )


def test_for_a_file_on_s3_another_command_is_named(said):
    code, _, err = said("s3://bucket/a.wav")
    sentence = "s3://bucket/a.wav is not local; use nightscribe transcribe input=s3://bucket/a.wav"
    assert (code, err) == (2, f"nightscribe: {sentence}\n")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("channel=1", "there is no channel 1 among 1, counted from 0"),
        ("model.checkpoint=/nowhere", "/nowhere"),
        ("engine.device=toaster", "toaster"),
        ("domain=law", "the model knows no domain 'law'"),
        ("tokens=true", "tokens=true needs format=json"),
        ("channel=-1", "channel counts from 0"),
        (
            "model.num_codebooks=99",
            "model.num_codebooks must be from 2 to 5 for this checkpoint, not 99",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(said, tmp_path, word, sentence):
    code, out, err = said(wav(tmp_path / "a.wav", babble(0.5)), word)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_model_must_be_chosen(capsys):
    with pytest.raises(SystemExit) as ended:
        run_job("file", lambda: JOB, ["a.wav"])
    assert ended.value.code == 2
    assert "model=NAME must be given, one of custom, icelandic, stt-" in capsys.readouterr().err


def written_as(format, **settings):
    config = FileConfig(
        audio="a.wav", model=ModelConfig(checkpoint="unused"), format=format, **settings
    )
    transcript = FileTranscript(uri="x/a.wav", duration_s=1.5, words=WORDS, tokens=[3, 0])
    return written(transcript, config)


@pytest.mark.parametrize("format", ["text", "words", "srt", "vtt", "ctm", "tsv"])
def test_every_format_has_every_word(format):
    page = written_as(format)
    assert all(word.text in page for word in WORDS)


def test_json_has_tokens_only_with_tokens_true():
    plain, full = json.loads(written_as("json")), json.loads(written_as("json", tokens=True))
    assert "tokens" not in plain
    assert full == {
        "uri": "x/a.wav",
        "duration_s": 1.5,
        "text": "so it\u2019s",
        "words": [
            {"text": "so", "start_s": 0.1, "end_s": 0.4, "confidence": 0.9877},
            {"text": "it\u2019s", "start_s": 0.4, "end_s": 1.235, "confidence": 0.5},
        ],
        "tokens": [3, 0],
    }


def test_the_command_imports_no_ray():
    script = "import sys, nightscribe; nightscribe.transcribe; print('ray' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


@pytest.mark.parametrize("name", ["absent.wav", "s3://bucket/a.wav", "."])
def test_a_file_that_is_not_there_is_refused_before_torch_is_imported(name):
    script = (
        "import sys\n"
        "from nightscribe.jobs.file import transcribe\n"
        f"try: transcribe({name!r}, model='tiny')\n"
        "except ValueError: print('torch' in sys.modules)"
    )
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert asked.stdout == "False\n", asked.stderr
