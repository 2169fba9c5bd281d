from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.training.augmentation import AugmentationConfig
from nightscribe.training.batches import BatchMaker, CorruptionConfig
from nightscribe.training.evaluation import EvaluationClip, word_error_rate
from nightscribe.training.plotting import plot_log
from nightscribe.training.train_state import (
    OptimizerConfig,
    TrainState,
    head_loss,
    learning_rate,
    resume,
    save,
)
from nightscribe.training.trainer import LOG_FILE, DataLoader, ScheduleConfig, Trainer
from nightscribe.training.windows import WindowConfig, WindowSampler
from tests.training.models import CONFIG, RATE_HZ, small_model, spoken, tokenizer, tokenizer_model

UTTERANCES = [spoken(["low", "high"]), spoken(["high", "low", "low"]), spoken(["high"])]
CLEAN = AugmentationConfig(
    equalise_rate=0, band_limit_rate=0, reverberate_rate=0, noise_rate=0, min_level_db=-16
)
LEARNING = OptimizerConfig(learning_rate=1e-2, warmup_steps=5, ema_decay=0.9)


def loader(model, schedule, prefixes=None):
    return DataLoader(
        sampler=WindowSampler(UTTERANCES, RATE_HZ, WindowConfig(window_s=3.0, max_speed=1.0)),
        augmentation=CLEAN,
        maker=BatchMaker(
            config=CONFIG,
            mimi=model.mimi,
            corruption=CorruptionConfig(word_rate=0.2),
            prefixes=prefixes or {},
        ),
        schedule=schedule,
    )


def trainer_of(num_steps, folder, model=None, schedule=None, **config):
    model = model or small_model()
    schedule = schedule or ScheduleConfig(num_steps=num_steps, windows_per_step=4, **config)
    state = TrainState(model.language_model, LEARNING, schedule.num_steps)
    return Trainer(state=state, loader=loader(model, schedule), folder=folder), model


def weights(state):
    return {name: p.detach().clone() for name, p in state.parameters.items()}


def test_a_model_learns_to_transcribe(tmp_path):
    trainer, model = trainer_of(150, tmp_path)
    trainer.run()
    clips = [
        EvaluationClip((spoken(words).samples_N * 20000).astype(np.int16), " ".join(words))
        for words in (["low", "high", "high"], ["high", "low"])
    ]
    trainer.state.swap_averages()
    model.language_model.eval()
    assert word_error_rate(model, tokenizer(tokenizer_model()), clips) <= 0.4
    plot_log(tmp_path / LOG_FILE, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_resumed_training_equals_one_that_was_never_interrupted(tmp_path):
    whole, _ = trainer_of(6, tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    whole.run()
    (tmp_path / "parts").mkdir()
    config = ScheduleConfig(num_steps=6, windows_per_step=4, save_every_steps=3)
    first, _ = trainer_of(6, tmp_path / "parts", schedule=config)
    batches = first.loader.from_step(0)
    for _ in range(3):
        first.state.update(next(batches))
    save(first.state, tmp_path / "parts" / "training.safetensors")
    second, _ = trainer_of(6, tmp_path / "parts", schedule=config)
    second.run()
    for name, weight in weights(whole.state).items():
        assert torch.equal(weight, second.state.parameters[name]), name
        assert torch.equal(whole.state.averages[name], second.state.averages[name]), name


def test_another_model_cannot_resume_a_saved_training(tmp_path):
    trainer, _ = trainer_of(1, tmp_path)
    trainer.run()
    other = TrainState(torch.nn.Linear(2, 2), LEARNING, 1)
    with pytest.raises(ValueError, match="another training"):
        resume(other, tmp_path / "training.safetensors")


def test_forced_tokens_are_neither_scored_nor_corrupted():
    model = small_model()
    domain = [spoken(["low"])]
    maker = loader(model, ScheduleConfig(), {"calls": (20, 21, 3, 3)}).maker
    sampler = WindowSampler(domain, RATE_HZ, WindowConfig(window_s=3.0))
    window = sampler.draw(np.random.default_rng(0))._replace(domain="calls")
    batch = maker.make([window], np.random.default_rng(0))
    assert batch.inputs_SP[0, 1:5].tolist() == [20, 21, 3, 3]
    assert batch.is_scored_SP[0].tolist()[:6] == [False] * 4 + [True] * 2


def test_forced_tokens_reach_the_model_even_if_every_word_is_corrupted():
    model = small_model()
    maker = BatchMaker(
        config=CONFIG,
        mimi=model.mimi,
        corruption=CorruptionConfig(word_rate=1.0, window_rate=1.0),
        prefixes={"calls": (20, 21, 22, 23)},
    )
    sampler = WindowSampler(UTTERANCES, RATE_HZ, WindowConfig(window_s=3.0, silent_rate=0))
    window = sampler.draw(np.random.default_rng(0))._replace(domain="calls")
    batch = maker.make([window], np.random.default_rng(0))
    start_id = CONFIG.language_model.text_start_id
    assert batch.inputs_SP[0, :5].tolist() == [start_id, 20, 21, 22, 23]
    assert not torch.equal(batch.inputs_SP[0, 5:], batch.targets_SP[0, 4:-1])


def test_forced_positions_have_no_loss():
    state, batch = learner_and_batch(padding_weight=0.5)
    spoilt = batch.targets_SP.clone()
    spoilt[:, :4] = 20
    is_scored_SP = batch.is_scored_SP.clone()
    is_scored_SP[:, :4] = False
    asked = [
        state.losses(batch._replace(targets_SP=written, is_scored_SP=is_scored_SP))[1]
        for written in (batch.targets_SP, spoilt)
    ]
    assert asked[0] == asked[1]
    assert state.losses(batch._replace(targets_SP=spoilt))[1].all != asked[0].all


def test_padding_has_the_configured_weight_in_the_loss():
    free, full = (learner_and_batch(padding_weight=weight) for weight in (0.0, 1.0))
    losses = free[0].losses(free[1])[1]
    assert losses.all == pytest.approx(losses.text, rel=1e-5)
    logits_SPV, _ = full[0].language_model(full[1].codes_SPK, full[1].inputs_SP)
    every = torch.nn.functional.cross_entropy(logits_SPV.mT, full[1].targets_SP)
    assert full[0].losses(full[1])[1].all == pytest.approx(every.item(), rel=1e-5)


def learner_and_batch(padding_weight):
    model = small_model()
    config = OptimizerConfig(learning_rate=0.1, padding_weight=padding_weight, heads_weight=0)
    batch = next(loader(model, ScheduleConfig(num_steps=1, windows_per_step=2)).from_step(0))
    return TrainState(model.language_model, config, 1), batch


def test_workers_draw_different_windows_and_each_step_is_reproducible():
    schedule = ScheduleConfig(num_steps=3, windows_per_step=2)
    mine = loader(small_model(), schedule)
    first, second, _ = mine.from_step(0)
    (again, _), other = mine.from_step(1), next(replace(mine, rank=1).from_step(0))
    assert torch.equal(second.codes_SPK, again.codes_SPK)
    assert torch.equal(second.inputs_SP, again.inputs_SP)
    assert not torch.equal(first.codes_SPK, second.codes_SPK)
    assert not torch.equal(first.codes_SPK, other.codes_SPK)


def test_the_first_position_has_no_audio_and_the_codec_starts_as_in_a_stream():
    model = small_model()
    maker = loader(model, ScheduleConfig()).maker
    window = WindowSampler(UTTERANCES, RATE_HZ, WindowConfig(window_s=2.0)).draw(
        np.random.default_rng(0)
    )
    codes_PK = maker.make([window], np.random.default_rng(0)).codes_SPK[0]
    assert (codes_PK[0] == CONFIG.language_model.audio_card).all()
    state, fresh = model.mimi.initial_state(1), torch.ones(1, dtype=torch.bool)
    streamed = model.mimi.encode(torch.from_numpy(window.samples_N)[None], state, fresh)[0]
    assert torch.equal(codes_PK[1:], streamed)


def test_averages_follow_the_weights_and_forget_the_initial_ones():
    state, batch = learner_and_batch(padding_weight=0.5)
    before = weights(state)
    state.update(batch)
    moved = [name for name, p in state.parameters.items() if not torch.equal(p, before[name])]
    assert moved
    for name in moved:
        expected = before[name].lerp(state.parameters[name], 10 / 11)
        torch.testing.assert_close(state.averages[name], expected)


def test_swapping_averages_twice_changes_nothing():
    state = TrainState(small_model().language_model, LEARNING, 10)
    next(iter(state.averages.values())).add_(1)
    before = weights(state)
    state.swap_averages()
    assert any(not torch.equal(before[name], p) for name, p in state.parameters.items())
    state.swap_averages()
    assert all(torch.equal(before[name], p) for name, p in state.parameters.items())


def test_the_loss_of_a_head_is_the_cross_entropy_of_the_target_class():
    extra_SPHA = torch.tensor([[[[0.5, 0.25, 0.25]]]])
    assert head_loss(extra_SPHA, torch.tensor([[[0]]])) == pytest.approx(np.log(2))
    assert head_loss(extra_SPHA, torch.tensor([[[2]]])) == pytest.approx(np.log(4))


def test_the_learning_rate_warms_up_and_then_only_falls():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, final_share=0.1)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
