"""`nightscribe evaluate texts=...`: what is spoken, heard and compared."""

import json

import numpy as np
import pytest

from nightscribe.jobs import evaluate_tts
from nightscribe.jobs.evaluate import JOB
from nightscribe.jobs.shell.command import run_job
from nightscribe.records import Word
from nightscribe.transcription.clips import ClipTranscript
from nightscribe.transcription.transcriber import Transcriber
from tests.speech.checkpoints import write_speech_checkpoint, write_voice

ROWS = [
    {"id": "a", "text": "the scribe writes on"},
    {"id": "b", "text": "he counts the waves"},
    {"id": "c", "text": ""},
]
LATE_S = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_speech_checkpoint(tmp_path_factory.mktemp("speech"))
    write_voice(folder, "ann", 1)
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder


def evaluated(folder, *words) -> dict:
    out = folder / "scores.json"
    given = [f"texts={folder / 'texts.jsonl'}", f"out={out}", "model=tiny", "voice=ann"]
    given += ["tts=custom", f"tts.checkpoint={folder}", f"tts.voices={folder}"]
    with pytest.raises(SystemExit) as ended:
        run_job("evaluate", lambda: JOB, [*given, "speech.device=cpu", *words])
    assert ended.value.code == 0
    return json.loads(out.read_text())


class Listener:
    """Hears every clip as it was spoken, late, and without its last word."""

    def __init__(self, spoken):
        self._spoken = spoken

    def transcribe(self, clips):
        for clip in clips:
            speech = self._spoken[clip.clip_id]
            assert len(clip.samples_N) == len(speech.samples_N)
            words = [
                Word(word.text, word.start_s + LATE_S, word.end_s + LATE_S, 0.9)
                for word in speech.words[:-1]
            ]
            nothing_T = np.zeros(0, np.int64)
            yield ClipTranscript(clip.clip_id, tuple(words), nothing_T, nothing_T, nothing_T)


def test_errors_of_words_and_times_are_those_of_the_listener(folder, monkeypatch):
    spoken, clips = {}, evaluate_tts._clips

    def remembered(config, synthesizer, state):
        for clip in clips(config, synthesizer, state):
            spoken.update(state.speeches)
            yield clip

    monkeypatch.setattr(evaluate_tts, "_clips", remembered)
    monkeypatch.setattr(Transcriber, "load", lambda *given: Listener(spoken))
    scores = evaluated(folder)
    total = scores["totals"]
    assert total["num_recordings"] == 3
    assert total["normalised"]["deletions"] == 2
    assert total["normalised"]["word_error_rate"] == pytest.approx(2 / 8)
    assert total["start_error_median_s"] == pytest.approx(LATE_S)
    assert {row["recording_id"] for row in scores["texts"]} == {"a", "b", "c"}


@pytest.mark.slow
def test_a_real_listener_hears_noise(folder, capsys):
    total = evaluated(folder, "limit=2")["totals"]
    assert total["num_recordings"] == 2
    assert total["normalised"]["reference_words"] == 8
    assert "corpus WER" in capsys.readouterr().out
