"""A training that stops and goes on ends where one that never stopped does."""

import torch
from torch import nn

from ops.tiny.progress import Progress


def started() -> tuple[nn.Module, Progress]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": parameters}], lr=0.1, betas=(0.9, 0.98))
    return module, Progress(module, optimizer)


def trained(module: nn.Module, progress: Progress, until: int) -> None:
    while progress.step < until:
        torch.manual_seed(progress.step)
        loss = module(torch.randn(4, 3)).square().mean()
        progress.optimizer.zero_grad()
        loss.backward()
        progress.optimizer.step()
        progress.average()


def test_going_on_from_a_state_changes_nothing(tmp_path):
    whole, stopped = started(), started()
    trained(*whole, until=9)
    trained(*stopped, until=4)
    stopped[1].save(tmp_path / "state.safetensors")
    again = started()
    again[1].load(tmp_path / "state.safetensors")
    assert again[1].step == 4
    trained(*again, until=9)
    torch.testing.assert_close(again[0].weight, whole[0].weight, rtol=0, atol=0)
    for name, average in whole[1].averages.items():
        torch.testing.assert_close(again[1].averages[name], average, rtol=0, atol=0)


def test_the_average_is_lent_and_taken_back():
    module, progress = started()
    trained(module, progress, until=5)
    before = module.weight.clone()
    with progress.averaged():
        torch.testing.assert_close(module.weight, progress.averages["weight"], rtol=0, atol=0)
        assert not torch.equal(module.weight, before)
    torch.testing.assert_close(module.weight, before, rtol=0, atol=0)


def test_the_average_follows_slowly_and_starts_near():
    module, progress = started()
    first = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    progress.average()
    moved = (progress.averages["weight"] - first).mean().item()
    assert 0.85 < moved < 0.95  # the first steps weigh as much as there are of them
