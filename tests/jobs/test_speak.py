"""`nightscribe speak` as a user runs it."""

import io
import json
import sys
import wave
from types import SimpleNamespace

import numpy as np
import pytest

from nightscribe.jobs.shell.command import run_job
from nightscribe.jobs.speak import JOB
from nightscribe.speech.synthesizer import Synthesizer
from tests.speech.checkpoints import write_voiced_checkpoint

TEXT = "one two three four"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_voiced_checkpoint(tmp_path_factory.mktemp("speech"))


def speak(folder, *words: str, voice: str = "ann") -> int:
    own = [f"tts.checkpoint={folder}", f"tts.voices={folder}", "speech.device=cpu"]
    with pytest.raises(SystemExit) as ended:
        run_job("speak", lambda: JOB, [*words, f"voice={voice}", "tts=custom", *own])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_text_becomes_a_file_and_its_words_have_times(folder, tmp_path, capsys):
    out = tmp_path / "hello.wav"
    assert speak(folder, TEXT, f"out={out}", "words=true", "seed=3") == 0
    with wave.open(str(out)) as wav:
        duration_s = wav.getnframes() / wav.getframerate()
        assert (wav.getnchannels(), wav.getsampwidth()) == (1, 2)
    document = json.loads(out.with_name("hello.wav.json").read_text())
    assert [word["text"] for word in document["words"]] == TEXT.split()
    assert document["words"][-1]["end_s"] <= duration_s
    assert document["duration_s"] == pytest.approx(duration_s, abs=1e-3)
    assert capsys.readouterr().err.endswith(f"{out}: {duration_s:.2f} s, 4 words\n")


@pytest.mark.parametrize("extension", ["flac", "opus", "mp3"])
def test_other_formats_hold_the_same_sound(folder, tmp_path, extension):
    from nightscribe.jobs.file import read_audio

    for name in ("a.wav", f"a.{extension}"):
        assert speak(folder, "one two", f"out={tmp_path / name}", "seed=3") == 0
    first_N, other_N = read_audio(tmp_path / "a.wav"), read_audio(tmp_path / f"a.{extension}")
    assert abs(len(first_N) - len(other_N)) < 0.1 * 24_000
    assert not list(tmp_path.glob(".*"))


def test_standard_output_gets_the_samples_of_the_file(folder, tmp_path, capfdbinary):
    out = tmp_path / "a.wav"
    assert speak(folder, "one two", f"out={out}", "seed=3") == 0
    capfdbinary.readouterr()
    assert speak(folder, "one two", "out=-", "seed=3") == 0
    streamed_N = np.frombuffer(capfdbinary.readouterr().out, "<i2")
    with wave.open(str(out)) as wav:
        written_N = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
    assert np.abs(streamed_N.astype(int) - written_N).max() <= 1


@pytest.mark.parametrize(
    ("words", "voice", "sentence"),
    [
        (["one", "out=a.ogg"], "ann", "the extension must be one of wav, flac, opus, mp3"),
        (["one", "out=nowhere/a.wav"], "ann", "there is no folder"),
        (["", "out=a.wav"], "ann", "no word that the model can speak"),
        (["one", "out=a.wav"], "nobody", "there is no voice 'nobody'"),
        (["one", "out=-", "words=true"], "ann", "words=true needs an audio file"),
        (["one", "out=a.wav", "tts.guidance=7"], "ann", "one of 1.0, 1.5, 2.0 for this model"),
    ],
)
def test_what_cannot_be_spoken_is_one_sentence(folder, capsys, words, voice, sentence):
    assert speak(folder, *words, voice=voice) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("out", ["a.wav", "-"])
def test_a_wrong_text_is_refused_before_the_weights_are_read(folder, capsys, monkeypatch, out):
    monkeypatch.setattr(Synthesizer, "load", lambda *given: pytest.fail("the weights were read"))
    assert speak(folder, "one \x07 two", f"out={out}") == 2
    assert "control character (U+0007)" in capsys.readouterr().err


def test_a_model_that_transcribes_does_not_speak(tmp_path, capsys):
    assert speak("models/tiny", "one", f"out={tmp_path / 'a.wav'}") == 2
    assert "is not a text-to-speech model" in capsys.readouterr().err


@pytest.mark.parametrize("pieces", [[b"one two three four"], [b"one t", b"wo thr", b"ee four"]])
def test_text_of_a_pipe_is_spoken_while_it_comes(folder, capfdbinary, monkeypatch, pieces):
    assert speak(folder, "one two three four", "out=-", "seed=3") == 0
    expected_N = np.frombuffer(capfdbinary.readouterr().out, "<i2").astype(int)
    reader = io.BufferedReader(Pipe(pieces))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(reader, encoding="utf-8"))
    assert speak(folder, "-", "out=-", "seed=3") == 0
    heard_N = np.frombuffer(capfdbinary.readouterr().out, "<i2").astype(int)
    assert np.abs(heard_N - expected_N).max() <= 1


class Pipe(io.RawIOBase):
    """Gives one piece at each read."""

    def __init__(self, pieces):
        self._pieces = list(pieces)

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self._pieces.pop(0) if self._pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


def test_speakers_get_the_samples_of_standard_output(folder, capfdbinary, monkeypatch):
    assert speak(folder, "one two", "out=-", "seed=3") == 0
    expected_N = np.frombuffer(capfdbinary.readouterr().out, "<i2")
    played = []

    class Speakers:
        def __init__(self, samplerate, channels, dtype):
            assert (samplerate, channels, dtype) == (24_000, 1, "int16")

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        write = staticmethod(lambda samples_N1: played.append(samples_N1[:, 0]))

    sounddevice = SimpleNamespace(OutputStream=Speakers, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)
    assert speak(folder, "one two", "out=speakers", "seed=3") == 0
    assert np.array_equal(np.concatenate(played), expected_N)
