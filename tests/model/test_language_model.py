"""The language model has the logits of the reference, at every position and in every slot."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nightscribe.model import attention_backends
from nightscribe.model.language_model import LanguageModel
from tests.model.reference import SMALL_LANGUAGE_MODEL, native, random_moshi_language_model

pytest.importorskip("moshi")

CONFIG = SMALL_LANGUAGE_MODEL
NUM_POSITIONS = 70  # of a window of 24: the ring wraps twice
TOLERANCE = 1e-5

REAL_WIDTH = replace(
    CONFIG,
    dim=2048,
    num_heads=16,
    num_layers=2,
    ffn_dim=5632,
    context=30,
    num_codebooks=32,
    audio_card=256,  # rows that are looked up; filling 2048 takes most of the time
    text_card=8000,
    text_start_id=8000,
    num_text_rows=8001,
)


@pytest.fixture(scope="module")
def moshi():
    return random_moshi_language_model(CONFIG, seed=3)


@pytest.fixture(scope="module")
def model(moshi):
    return load(CONFIG, moshi)


def load(config, moshi, dtype=torch.float32) -> LanguageModel:
    return LanguageModel.load(config, native(moshi.state_dict()), "cpu", dtype)


def random_inputs(
    config, num_slots: int, num_positions: int = NUM_POSITIONS, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = num_slots, num_positions
    codes_STK = torch.randint(
        config.audio_card + 1, (*shape, config.num_codebooks), generator=generator
    )
    return codes_STK, torch.randint(config.text_card + 1, shape, generator=generator)


@torch.no_grad()
def reference(moshi, codes_STK, text_ST, position: int = 0):
    """Logits and extra heads' probabilities of the reference, stepped one position at a time."""
    inputs_SKT = torch.cat((text_ST[..., None], codes_STK), dim=-1).mT
    logits, extra = [], []
    with moshi.streaming(len(codes_STK)):
        _start_at(moshi, position)
        for input_SK1 in inputs_SKT.split(1, dim=-1):
            hidden_S1D, logits_S11V = moshi.forward_text(input_SK1)
            logits.append(logits_S11V[:, 0].float())
            heads = [head(hidden_S1D).softmax(-1) for head in moshi.extra_heads]
            extra.append(torch.stack(heads, dim=2))
    return torch.cat(logits, dim=1), torch.cat(extra, dim=1)


def _start_at(moshi, position: int) -> None:
    """Set the reference to a state after this many positions of zeros."""
    for module in moshi.modules():
        state = getattr(module, "_streaming_state", None)
        for counter in ("offset", "offsets"):
            if hasattr(state, counter):
                getattr(state, counter).fill_(position)
        if getattr(state, "kv_cache", None) is not None:
            state.kv_cache.end_offset.fill_(position)


def stepped(model, codes_STK, text_ST, width: int = 1, position: int = 0, **options):
    """Our logits and probabilities, `width` positions at a time."""
    num_slots = len(codes_STK)
    cache = model.empty_cache(num_slots, width)
    cache.next_positions_B += position
    fresh_S = torch.full((num_slots,), position == 0)
    said = []
    for codes, text in zip(codes_STK.split(width, 1), text_ST.split(width, 1), strict=True):
        said.append(model.extend(codes, text, cache, fresh_S, **options))
        fresh_S = torch.zeros_like(fresh_S)
    return torch.cat([s.logits_STV for s in said], 1), torch.cat([s.vad_STHA for s in said], 1)


@pytest.mark.parametrize("width", [1, 3, 8, NUM_POSITIONS])
def test_logits_and_extra_heads_equal_the_reference_past_its_window(model, moshi, width):
    inputs = random_inputs(CONFIG, num_slots=3)
    logits, extra = stepped(model, *inputs, width)
    expected_logits, expected_extra = reference(moshi, *inputs)
    assert (logits - expected_logits).abs().max() < TOLERANCE
    assert (extra - expected_extra).abs().max() < TOLERANCE


def test_whole_sequences_equal_steps(model, moshi):
    inputs = random_inputs(CONFIG, num_slots=2)
    with torch.no_grad():
        whole = model(*inputs)
    expected_logits, expected_extra = reference(moshi, *inputs)
    assert (whole.logits_STV - expected_logits).abs().max() < TOLERANCE
    assert (whole.vad_STHA - expected_extra).abs().max() < TOLERANCE


def test_a_key_is_seen_for_exactly_the_window():
    config = replace(CONFIG, num_layers=1, context=8)
    model = load(config, random_moshi_language_model(config, seed=4))
    codes, text = random_inputs(config, num_slots=1, num_positions=30)
    plain, _ = stepped(model, codes, text)
    codes[:, 10] = (codes[:, 10] + 1) % config.audio_card
    changed, _ = stepped(model, codes, text)
    differs_T = (plain != changed).any(-1)[0]
    assert differs_T.nonzero()[:, 0].tolist() == list(range(10, 18))


def test_far_positions_turn_by_the_angles_of_the_reference(model, moshi):
    inputs = random_inputs(CONFIG, num_slots=2, num_positions=40)
    far, _ = stepped(model, *inputs, position=450_000)
    expected, _ = reference(moshi, *inputs, position=450_000)
    near, _ = reference(moshi, *inputs, position=0)
    assert (far - expected).abs().max() < TOLERANCE
    assert (far - near).abs().max() > 100 * TOLERANCE


def test_a_slot_begun_anew_forgets_and_its_neighbours_do_not(model):
    first, second = (random_inputs(CONFIG, num_slots=3, seed=seed) for seed in (1, 2))
    cache = model.empty_cache(3)
    fresh_S = torch.ones(3, dtype=torch.bool)
    for position in range(NUM_POSITIONS):
        model.extend(first[0][:, [position]], first[1][:, [position]], cache, fresh_S)
        fresh_S = torch.zeros_like(fresh_S)
    fresh_S[1] = True
    said = []
    for position in range(NUM_POSITIONS):
        step = second[0][:, [position]], second[1][:, [position]]
        said.append(model.extend(*step, cache, fresh_S).logits_STV)
        fresh_S = torch.zeros_like(fresh_S)
    logits = torch.cat(said, dim=1)
    anew, _ = stepped(model, second[0], second[1])
    on = (torch.cat(both, dim=1) for both in zip(first, second, strict=True))
    continued, _ = stepped(model, *on)
    assert torch.equal(logits[1], anew[1])
    assert torch.equal(logits[[0, 2]], continued[[0, 2], NUM_POSITIONS:])


def test_neighbours_never_change_a_slot(model):
    codes, text = random_inputs(CONFIG, num_slots=4)
    logits, _ = stepped(model, codes, text)
    codes[1:], text[1:] = codes[1:].flip(1), text[1:].flip(1)
    among_others, _ = stepped(model, codes, text)
    assert torch.equal(logits[0], among_others[0])
    assert not torch.equal(logits[1], among_others[1])


def test_reading_only_the_entries_in_use_changes_nothing(model):
    inputs = random_inputs(CONFIG, num_slots=2, num_positions=10)
    whole_ring, _ = stepped(model, *inputs)
    read, _ = stepped(model, *inputs, kv_lengths=10)
    assert torch.allclose(whole_ring, read, rtol=0, atol=TOLERANCE)


def test_a_stream_is_never_spoiled_by_what_the_slot_held_before(model):
    inputs = random_inputs(CONFIG, num_slots=2)
    cache = model.empty_cache(2)
    cache.keys.data_LBHCE.fill_(1e4)
    cache.values.data_LBHCE.fill_(1e4)
    cache.next_positions_B.fill_(1000)
    fresh_S = torch.ones(2, dtype=torch.bool)
    said = model.extend(inputs[0][:, :1], inputs[1][:, :1], cache, fresh_S).logits_STV
    expected, _ = stepped(model, *inputs)
    assert torch.equal(said[:, 0], expected[:, 0])


def test_fewer_codebooks_are_those_of_the_file_s_first_tables(moshi):
    config = replace(CONFIG, num_codebooks=2)
    few = load(config, moshi)
    codes, text = random_inputs(config, num_slots=1)
    moshi_few = random_moshi_language_model(config, seed=3)
    moshi_few.load_state_dict(moshi.state_dict(), strict=False)
    logits, _ = stepped(few, codes, text)
    assert (logits - reference(moshi_few, codes, text)[0]).abs().max() < TOLERANCE


def test_bf16_rounds_where_the_reference_rounds_when_it_adds_in_order(monkeypatch):
    # The reference's fused attention rounds its weights to bf16; ours on a CPU keeps them in fp32.
    monkeypatch.setattr(attention_backends, "_attend_on_cpu", attention_backends._attend_sdpa)
    moshi = random_moshi_language_model(CONFIG, seed=3, dtype=torch.bfloat16)
    model = load(CONFIG, moshi, torch.bfloat16)
    codes, text = random_inputs(CONFIG, num_slots=3)
    expected, _ = reference(moshi, codes, text)
    model.embed = model.embedding.add_in_order
    in_order, _ = stepped(model, codes, text)
    model.embed = model.embedding.add_at_once
    at_once, _ = stepped(model, codes, text)
    assert (in_order - expected).abs().mean() < 0.5 * (at_once - expected).abs().mean()
    assert (in_order.argmax(-1) == expected.argmax(-1)).float().mean() > 0.97


def test_the_published_width_has_the_logits_of_the_reference():
    moshi = random_moshi_language_model(REAL_WIDTH, seed=5)
    model = load(REAL_WIDTH, moshi)
    inputs = random_inputs(REAL_WIDTH, num_slots=2, num_positions=40)
    logits, extra = stepped(model, *inputs, width=2)
    expected_logits, expected_extra = reference(moshi, *inputs)
    assert (logits - expected_logits).abs().max() < TOLERANCE * expected_logits.abs().max()
    assert (extra - expected_extra).abs().max() < TOLERANCE


def test_native_tensors_come_back_as_they_were_loaded(model, moshi):
    written = {name: place.read() for name, place in model.native_tensors().items()}
    assert written.keys() == dict(native(moshi.state_dict())).keys()
    for name, tensor in native(moshi.state_dict()):
        assert torch.equal(written[name], tensor), name


def test_every_weight_learns_from_whole_sequences():
    model = LanguageModel(CONFIG)
    said = model(*random_inputs(CONFIG, num_slots=2))
    (said.logits_STV.square().sum() + said.vad_STHA.square().sum()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda tensors: tensors.pop("out_norm.alpha"), "lacks tensor 'out_norm.alpha'"),
        (lambda tensors: tensors.update(surplus=torch.zeros(1)), "has a tensor 'surplus'"),
        (
            lambda tensors: tensors.update({"text_linear.weight": torch.zeros(50, 3)}),
            r"'text_linear.weight' has shape \[50, 3\], expected \[50, 64\]",
        ),
    ],
)
def test_wrong_tensors_are_named(moshi, spoil, complaint):
    tensors = dict(native(moshi.state_dict()))
    spoil(tensors)
    with pytest.raises(ValueError, match=complaint):
        LanguageModel.load(CONFIG, tensors.items(), "cpu", torch.float32)
