import json

import pytest
import ray
import torch

from nightscribe.cluster.training_workers import WorkersConfig, average_gradients, train_on_workers


@pytest.fixture
def a_ray():
    """The Ray of other tests where they have started one."""
    if ray.is_initialized():
        yield
        return
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _learn(folder, worker):
    """Each worker has a gradient of its own; all end with the mean."""
    weight = torch.nn.Parameter(torch.zeros(2))
    (weight * torch.tensor([1.0, 10.0]) * (worker.rank + 1)).sum().backward()
    average_gradients([weight])
    told = {"first": worker.is_first, "device": str(worker.device), "mean": weight.grad.tolist()}
    (folder / f"{worker.rank}.json").write_text(json.dumps(told))


# Ray warns of what Ray itself does.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.ray
def test_workers_learn_from_the_mean_of_their_gradients(a_ray, tmp_path):
    train_on_workers(_learn, tmp_path, WorkersConfig(num_workers=2), str(tmp_path / "ray"))
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [one["mean"] for one in told] == [[1.5, 15.0]] * 2
    assert [one["first"] for one in told] == [True, False]
    assert {one["device"] for one in told} == {"cpu"}


def test_a_worker_without_a_cpu_is_refused():
    with pytest.raises(ValueError, match=r"workers\.cpus_each must be positive, got 0"):
        WorkersConfig(cpus_each=0)
