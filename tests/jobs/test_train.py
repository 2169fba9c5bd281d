import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from nightscribe.jobs.train import MODEL_FOLDER, PLOT_FILE, TrainConfig, train
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.native_tensors import read
from nightscribe.training.export import export_checkpoint
from nightscribe.training.lora import AdapterConfig
from nightscribe.training.train_state import TrainState
from nightscribe.training.trainer import LOG_FILE, ScheduleConfig
from nightscribe.training.windows import WindowConfig
from tests.training.models import CONFIG, RATE_HZ, small_model, spoken, tokenizer_model


@pytest.fixture
def config(tmp_path):
    """A small checkpoint, two recordings with timed words, and a vocabulary to add."""
    model = small_model()
    export_checkpoint(
        tmp_path / "begin",
        CONFIG,
        read(model.language_model.native_tensors()),
        read(model.mimi.native_tensors()),
        tokenizer_model(),
    )
    rows = []
    for index, words in enumerate((["low", "high"], ["high", "high", "low"])):
        utterance = spoken(words)
        sound = (utterance.samples_N * 20000).astype(np.int16)
        soundfile.write(tmp_path / f"{index}.wav", sound, RATE_HZ)
        timed = zip(words, utterance.words, strict=True)
        times = [{"text": t, "start_s": w.start_s, "end_s": w.end_s} for t, w in timed]
        rows.append({"audio": f"{index}.wav", "text": " ".join(words), "words": times})
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "pieces.txt").write_text(" ward\n")
    return TrainConfig(
        manifest=str(manifest),
        development=str(manifest),
        output=str(tmp_path / "out"),
        vocabulary=str(tmp_path / "pieces.txt"),
        device="cpu",
        model=ModelConfig(checkpoint=str(tmp_path / "begin")),
        schedule=ScheduleConfig(num_steps=4, windows_per_step=2, evaluate_every_steps=2),
        adapter=AdapterConfig(rank=2),
        windows=WindowConfig(window_s=2.0),
    )


def test_a_manifest_becomes_a_model_with_a_log_and_a_chart(config, tmp_path):
    train(config)
    taught = open_checkpoint(str(tmp_path / "out" / MODEL_FOLDER))
    assert taught.tokenizer.encode("ward") == [CONFIG.language_model.text_card]
    log = (tmp_path / "out" / LOG_FILE).read_text().splitlines()
    lines = [json.loads(line) for line in log]
    assert [line["step"] for line in lines if "wer" in line] == [2, 4]
    assert (tmp_path / "out" / PLOT_FILE).stat().st_size > 1000


def test_a_finished_training_is_not_repeated(config, tmp_path):
    train(config)
    before = (tmp_path / "out" / LOG_FILE).read_text()
    train(config)
    assert (tmp_path / "out" / LOG_FILE).read_text() == before


def test_a_file_that_cannot_be_decoded_is_named(config, tmp_path):
    (tmp_path / "0.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"0\.wav cannot be used for training"):
        train(config)


def test_a_training_that_is_stopped_goes_on_where_it_was(config, tmp_path, monkeypatch):
    """A real signal during the first step: the result equals that of an undisturbed training."""
    whole = replace(config, output=str(tmp_path / "whole"))
    assert train(whole) == 0
    update = TrainState.update

    def interrupted(state, batch):
        if state.step == 0:
            signal.raise_signal(signal.SIGTERM)
        return update(state, batch)

    monkeypatch.setattr(TrainState, "update", interrupted)
    assert train(config) == 130
    assert not (tmp_path / "out" / MODEL_FOLDER).exists()
    monkeypatch.undo()
    assert train(config) == 0
    first, second = (
        open_checkpoint(str(tmp_path / name / MODEL_FOLDER)) for name in ("whole", "out")
    )
    assert first.revision == second.revision


def test_a_training_on_texts_that_do_not_match_is_refused(config, tmp_path):
    manifest = tmp_path / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    untimed = {"uri": rows[0]["audio"], "text": "low " * 400}
    manifest.write_text("\n".join(json.dumps(row) for row in (untimed, rows[1])))
    with pytest.raises(ValueError, match=r"1 of 2 examples do not match.*0\.wav: alignment failed"):
        train(config)
    assert train(replace(config, max_skipped_share=0.5)) == 0
