import torch

from nightscribe.training.lora import add_lora, merge_lora, train_rows
from tests.training.models import small_model

CODES = torch.tensor([[[16, 16, 16], [1, 2, 3], [4, 5, 6]]])
TEXT = torch.tensor([[34, 3, 0]])


def test_untrained_lora_changes_nothing():
    language_model = small_model().language_model
    before = language_model(CODES, TEXT).logits_STV
    add_lora(language_model, rank=2, scaling=2.0)
    assert torch.equal(language_model(CODES, TEXT).logits_STV, before)


def test_only_lora_is_trained_and_merging_keeps_its_effect():
    language_model = small_model().language_model
    base = language_model.transformer.layers[0].attention.project_in.weight.detach().clone()
    add_lora(language_model, rank=2, scaling=2.0)
    learnt = [name for name, p in language_model.named_parameters() if p.requires_grad]
    assert learnt
    assert all(name.endswith(("down_RD", "up_ER")) for name in learnt)
    with torch.no_grad():
        for name, parameter in language_model.named_parameters():
            if name.endswith("up_ER"):
                parameter.normal_()
    taught = language_model(CODES, TEXT).logits_STV
    merge_lora(language_model)
    assert not [name for name, _ in language_model.named_parameters() if "original" in name]
    torch.testing.assert_close(language_model(CODES, TEXT).logits_STV, taught)
    merged = language_model.transformer.layers[0].attention.project_in.weight
    assert not torch.equal(merged, base)


def test_rows_that_are_not_trained_keep_their_values():
    table = torch.nn.Embedding(6, 3)
    before = table.weight.detach().clone()
    train_rows(table, slice(4, 5))
    optimizer = torch.optim.AdamW([table.weight], lr=0.1, weight_decay=0)
    table(torch.arange(6)).sum().backward()
    optimizer.step()
    assert torch.equal(table.weight[:4], before[:4])
    assert torch.equal(table.weight[5], before[5])
    assert not torch.equal(table.weight[4], before[4])


def test_an_untrained_adapter_can_learn_from_the_first_step_on():
    """Its first matrix is random and within the usual bound; a matrix of zeros has no gradient."""
    language_model = small_model().language_model
    add_lora(language_model, rank=2, scaling=2.0)
    for name, down_RD in language_model.named_parameters():
        if name.endswith("down_RD"):
            bound = down_RD.shape[1] ** -0.5
            assert bound / 2 < down_RD.abs().max() <= bound
