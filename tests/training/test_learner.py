from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.training.augmentation import AugmentationConfig
from nightscribe.training.batches import BatchMaker
from nightscribe.training.checkpointing import resume_training, save_training
from nightscribe.training.evaluation import DevelopmentClip, word_error_rate
from nightscribe.training.learner import Learner, LearningConfig, heads_nats, learning_rate
from nightscribe.training.plotting import plot_log
from nightscribe.training.token_corruption import CorruptionConfig
from nightscribe.training.trainer import LOG_FILE, Course, CourseConfig, Lessons
from nightscribe.training.windows import WindowConfig, WindowSampler
from tests.training.models import CONFIG, RATE_HZ, small_model, spoken, tokenizer, tokenizer_model

UTTERANCES = [spoken(["low", "high"]), spoken(["high", "low", "low"]), spoken(["high"])]
CLEAN = AugmentationConfig(
    equalise_rate=0, band_limit_rate=0, reverberate_rate=0, noise_rate=0, min_level_db=-16
)
LEARNING = LearningConfig(learning_rate=1e-2, warmup_steps=5, ema_decay=0.9)


def lessons(model, course, prefixes=None):
    return Lessons(
        sampler=WindowSampler(UTTERANCES, RATE_HZ, WindowConfig(window_s=3.0, max_speed=1.0)),
        augmentation=CLEAN,
        maker=BatchMaker(
            config=CONFIG,
            mimi=model.mimi,
            corruption=CorruptionConfig(word_rate=0.2),
            prefixes=prefixes or {},
        ),
        course=course,
    )


def course_of(num_steps, folder, model=None, course=None, **config):
    model = model or small_model()
    course = course or CourseConfig(num_steps=num_steps, windows_per_step=4, **config)
    learner = Learner(model.language_model, LEARNING, course.num_steps)
    return Course(learner=learner, lessons=lessons(model, course), folder=folder), model


def weights(learner):
    return {name: p.detach().clone() for name, p in learner.parameters.items()}


def test_a_model_learns_to_write_what_it_hears(tmp_path):
    course, model = course_of(150, tmp_path)
    course.run()
    clips = [
        DevelopmentClip((spoken(words).samples_N * 20000).astype(np.int16), " ".join(words))
        for words in (["low", "high", "high"], ["high", "low"])
    ]
    course.learner.swap_averages()
    model.language_model.eval()
    assert word_error_rate(model, tokenizer(tokenizer_model()), clips) <= 0.4
    plot_log(tmp_path / LOG_FILE, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_resumed_training_is_the_one_never_interrupted(tmp_path):
    whole, _ = course_of(6, tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    whole.run()
    (tmp_path / "parts").mkdir()
    config = CourseConfig(num_steps=6, windows_per_step=4, save_every_steps=3)
    first, _ = course_of(6, tmp_path / "parts", course=config)
    batches = first.lessons.from_step(0)
    for _ in range(3):
        first.learner.learn(next(batches))
    save_training(first.learner, tmp_path / "parts" / "training.safetensors")
    second, _ = course_of(6, tmp_path / "parts", course=config)
    second.run()
    for name, weight in weights(whole.learner).items():
        assert torch.equal(weight, second.learner.parameters[name]), name
        assert torch.equal(whole.learner.averages[name], second.learner.averages[name]), name


def test_another_model_cannot_go_on_from_a_saved_training(tmp_path):
    course, _ = course_of(1, tmp_path)
    course.run()
    other = Learner(torch.nn.Linear(2, 2), LEARNING, 1)
    with pytest.raises(ValueError, match="another training"):
        resume_training(other, tmp_path / "training.safetensors")


def test_forced_tokens_are_not_asked_and_not_spoilt():
    model = small_model()
    domain = [spoken(["low"])]
    maker = lessons(model, CourseConfig(), {"calls": (20, 21, 3, 3)}).maker
    sampler = WindowSampler(domain, RATE_HZ, WindowConfig(window_s=3.0))
    window = sampler.draw(np.random.default_rng(0))._replace(domain="calls")
    batch = maker.make([window], np.random.default_rng(0))
    assert batch.heard_SP[0, 1:5].tolist() == [20, 21, 3, 3]
    assert batch.is_asked_SP[0].tolist()[:6] == [False] * 4 + [True] * 2


def test_forced_tokens_reach_the_model_even_where_every_word_is_spoilt():
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
    assert batch.heard_SP[0, :5].tolist() == [start_id, 20, 21, 22, 23]
    assert not torch.equal(batch.heard_SP[0, 5:], batch.written_SP[0, 4:-1])


def test_positions_that_are_forced_cost_nothing():
    learner, batch = learner_and_batch(padding_weight=0.5)
    spoilt = batch.written_SP.clone()
    spoilt[:, :4] = 20
    is_asked_SP = batch.is_asked_SP.clone()
    is_asked_SP[:, :4] = False
    asked = [
        learner.losses(batch._replace(written_SP=written, is_asked_SP=is_asked_SP))[1]
        for written in (batch.written_SP, spoilt)
    ]
    assert asked[0] == asked[1]
    assert learner.losses(batch._replace(written_SP=spoilt))[1].all != asked[0].all


def test_padding_weighs_as_it_is_asked_to():
    free, full = (learner_and_batch(padding_weight=weight) for weight in (0.0, 1.0))
    losses = free[0].losses(free[1])[1]
    assert losses.all == pytest.approx(losses.text, rel=1e-5)
    logits_SPV, _ = full[0].language_model(full[1].codes_SPK, full[1].heard_SP)
    every = torch.nn.functional.cross_entropy(logits_SPV.mT, full[1].written_SP)
    assert full[0].losses(full[1])[1].all == pytest.approx(every.item(), rel=1e-5)


def learner_and_batch(padding_weight):
    model = small_model()
    config = LearningConfig(learning_rate=0.1, padding_weight=padding_weight, heads_weight=0)
    batch = next(lessons(model, CourseConfig(num_steps=1, windows_per_step=2)).from_step(0))
    return Learner(model.language_model, config, 1), batch


def test_workers_hear_windows_of_their_own_and_each_step_is_drawn_alike_again():
    course = CourseConfig(num_steps=3, windows_per_step=2)
    mine = lessons(small_model(), course)
    first, second, _ = mine.from_step(0)
    (again, _), other = mine.from_step(1), next(replace(mine, rank=1).from_step(0))
    assert torch.equal(second.codes_SPK, again.codes_SPK)
    assert torch.equal(second.heard_SP, again.heard_SP)
    assert not torch.equal(first.codes_SPK, second.codes_SPK)
    assert not torch.equal(first.codes_SPK, other.codes_SPK)


def test_the_first_position_hears_no_sound_and_the_codec_hears_as_in_a_stream():
    model = small_model()
    maker = lessons(model, CourseConfig()).maker
    window = WindowSampler(UTTERANCES, RATE_HZ, WindowConfig(window_s=2.0)).draw(
        np.random.default_rng(0)
    )
    codes_PK = maker.make([window], np.random.default_rng(0)).codes_SPK[0]
    assert (codes_PK[0] == CONFIG.language_model.audio_card).all()
    state, fresh = model.mimi.initial_state(1), torch.ones(1, dtype=torch.bool)
    streamed = model.mimi.encode(torch.from_numpy(window.samples_N)[None], state, fresh)[0]
    assert torch.equal(codes_PK[1:], streamed)


def test_averages_follow_the_weights_and_forget_those_before():
    learner, batch = learner_and_batch(padding_weight=0.5)
    before = weights(learner)
    learner.learn(batch)
    moved = [name for name, p in learner.parameters.items() if not torch.equal(p, before[name])]
    assert moved
    for name in moved:
        expected = before[name].lerp(learner.parameters[name], 10 / 11)
        torch.testing.assert_close(learner.averages[name], expected)


def test_swapping_averages_twice_changes_nothing():
    learner = Learner(small_model().language_model, LEARNING, 10)
    next(iter(learner.averages.values())).add_(1)
    before = weights(learner)
    learner.swap_averages()
    assert any(not torch.equal(before[name], p) for name, p in learner.parameters.items())
    learner.swap_averages()
    assert all(torch.equal(before[name], p) for name, p in learner.parameters.items())


def test_heads_pay_for_the_probability_of_the_right_answer():
    extra_SPHA = torch.tensor([[[[0.5, 0.25, 0.25]]]])
    assert heads_nats(extra_SPHA, torch.tensor([[[0]]])) == pytest.approx(np.log(2))
    assert heads_nats(extra_SPHA, torch.tensor([[[2]]])) == pytest.approx(np.log(4))


def test_the_learning_rate_warms_up_and_then_only_falls():
    config = LearningConfig(learning_rate=1.0, warmup_steps=10, final_share=0.1)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
