"""Tokens are chosen as they should be, whatever constrains the choice."""

import pytest
import torch

from nightscribe.model.sampling import (
    NO_TOKEN,
    BatchConstraints,
    Sampling,
    TokenConstraints,
    _gumbel,
    probabilities_of,
    sample,
    sample_each,
)

NUM_DRAWS = 40_000


def test_draws_follow_the_softmax_at_their_temperature():
    logits_V = torch.tensor([2.0, 1.0, 0.5, -1.0, 0.0])
    drawn = sample(
        logits_V.expand(NUM_DRAWS, -1), Sampling(temperature=0.7), torch.arange(NUM_DRAWS)
    )
    shares_V = torch.bincount(drawn, minlength=5) / NUM_DRAWS
    assert torch.allclose(shares_V, (logits_V / 0.7).softmax(0), atol=0.01)


def test_draws_stay_within_the_likeliest():
    logits_SV = torch.randn(1000, 30, generator=torch.Generator().manual_seed(0))
    drawn = sample(logits_SV, Sampling(temperature=5.0, top_k=3), torch.arange(1000))
    assert (logits_SV.topk(3).indices == drawn[:, None]).any(-1).all()
    assert not torch.equal(drawn, logits_SV.argmax(-1))


def test_each_slot_draws_by_a_temperature_and_a_seed_of_its_own():
    logits_SV = torch.randn(200, 30, generator=torch.Generator().manual_seed(1))
    positions_S = torch.arange(200)
    temperatures_S = torch.tensor([0.0, 0.5, 2.0, 0.0]).repeat(50)
    seeds_S = torch.arange(200) % 7
    drawn_S = sample_each(logits_SV, temperatures_S, seeds_S, positions_S)
    for slot in range(200):
        sampling = Sampling(temperature=float(temperatures_S[slot]), seed=slot % 7)
        row = slice(slot, slot + 1)
        assert drawn_S[row].equal(sample(logits_SV[row], sampling, positions_S[row]))


def test_every_seed_and_every_position_draws_anew():
    positions_S, even_SV = torch.arange(NUM_DRAWS), torch.zeros(NUM_DRAWS, 10)
    first_S, second_S = (
        sample(even_SV, Sampling(temperature=1, seed=s), positions_S) for s in (4, 5)
    )
    for other_S in (second_S, first_S.roll(1)):
        assert (first_S == other_S).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_the_noise_of_draws_is_never_infinite():
    highest = torch.tensor(0x7FFFFF).float()
    assert (highest + 0.5) / 0x800000 < 1
    assert _gumbel(torch.arange(20000), torch.arange(20000), 50).isfinite().all()


def test_a_prompt_has_an_end():
    with pytest.raises(ValueError, match="may have 512 tokens, this one has 513"):
        TokenConstraints(prompt_tokens=(5,) * 513)


def test_temperature_zero_takes_the_likeliest_and_the_lowest_of_equals():
    logits_SV = torch.tensor([[0.0, 3.0, 1.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    assert sample(logits_SV, Sampling(), torch.zeros(2, dtype=torch.int64)).tolist() == [1, 0]


def test_a_probability_is_the_model_s_own():
    logits_SV = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    probabilities = probabilities_of(torch.tensor([2, 1]), logits_SV)
    assert torch.allclose(probabilities, torch.tensor([0.25, 0.0]))


def test_a_prompt_moves_on_only_when_its_token_is_output():
    scripts = BatchConstraints.of(
        [TokenConstraints(prompt_tokens=(5, 6)), TokenConstraints()], (0, 3), torch.device("cpu")
    )
    positions_S = torch.zeros(2, dtype=torch.int64)
    likes_7, likes_5, likes_3 = (torch.eye(8)[token].expand(2, -1) for token in (7, 5, 3))
    said = []
    for logits_SV in (likes_3, likes_5, likes_7 + likes_5 / 2, likes_7):
        held = scripts.constrain(logits_SV)
        said.append(scripts.force(held.argmax(-1), positions_S).tolist())
    assert [tokens[1] for tokens in said] == [3, 5, 7, 7]
    assert [tokens[0] for tokens in said[:2]] == [3, 5]
    assert said[2][0] in (0, 3, 6)


def test_forced_tokens_leave_free_positions_to_the_model():
    scripts = BatchConstraints.of(
        [TokenConstraints(forced_tokens=(4, NO_TOKEN, 6))], (0, 3), torch.device("cpu")
    )
    chosen_S = torch.tensor([1])
    said = [scripts.force(chosen_S, torch.tensor([position])).item() for position in range(5)]
    assert said == [4, 1, 6, 1, 1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"temperature": -1.0}, "must not be negative, got -1.0"), ({"top_k": 0}, "got 0")],
)
def test_impossible_sampling_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Sampling(**options)


@pytest.mark.parametrize("temperature", [0.7, 5.0])
def test_the_best_of_one_token_is_the_most_likely_one(temperature):
    logits_SV = torch.randn(64, 9, generator=torch.Generator().manual_seed(3))
    drawn = sample(logits_SV, Sampling(temperature=temperature, top_k=1), torch.arange(64))
    assert torch.equal(drawn, logits_SV.argmax(dim=-1))


def test_more_tokens_than_there_are_may_be_asked_for():
    logits_SV = torch.zeros(400, 3)
    drawn = sample(logits_SV, Sampling(temperature=1.0, top_k=50), torch.arange(400))
    assert set(drawn.tolist()) == {0, 1, 2}
