"""What a cluster lacks is said before anything waits for it."""

import pytest

from nightscribe.cluster import resources
from nightscribe.cluster.resources import ClusterLacksError, plan_pool, pool_for
from nightscribe.runs.config import ClusterConfig

GPU_NODE = {"CPU": 32.0, "GPU": 8.0}
CPU_NODE = {"CPU": 16.0}


def test_every_gpu_gets_a_transcriber_and_the_other_cpus_decode_and_publish():
    pool = plan_pool([GPU_NODE, GPU_NODE, CPU_NODE], ClusterConfig(), 256)
    assert (pool.num_actors, pool.gpus_per_actor, pool.num_audio_workers) == (16, 1.0, 60)


def test_several_transcribers_share_a_gpu_but_none_spreads_over_two():
    pool = plan_pool([GPU_NODE], ClusterConfig(gpus_per_actor=0.4), 64)
    assert pool.num_actors == 16


def test_without_gpus_one_transcriber_runs_on_the_cpu():
    pool = plan_pool([CPU_NODE], ClusterConfig(), 8)
    assert (pool.num_actors, pool.gpus_per_actor) == (1, 0.0)


@pytest.mark.parametrize(
    ("nodes", "num_actors", "cpus_per_actor", "num_audio_workers"),
    [
        ([CPU_NODE], None, 14, 1),
        ([CPU_NODE], 3, 4, 3),
        ([CPU_NODE, CPU_NODE], 2, 14, 3),
        ([{"CPU": 4.0}], None, 2, 1),
        ([{"CPU": 2.5}], None, 1, 1),
        ([{"CPU": 2.0}], None, 0.5, 1),
        ([{"CPU": 2.0, "GPU": 1.0}], None, 0.5, 1),
        ([GPU_NODE], None, 1, 22),
    ],
)
def test_transcribers_without_gpus_take_the_cpus_that_decoding_leaves(
    nodes, num_actors, cpus_per_actor, num_audio_workers
):
    pool = plan_pool(nodes, ClusterConfig(num_actors=num_actors), 8)
    assert (pool.cpus_per_actor, pool.num_audio_workers) == (cpus_per_actor, num_audio_workers)


@pytest.mark.parametrize(("cpus_per_gpu", "cpus_per_actor"), [(4, 1), (7, 1), (8, 2), (24, 2)])
def test_an_engine_has_a_cpu_of_its_own_where_decoding_can_spare_it(cpus_per_gpu, cpus_per_actor):
    node = {"CPU": 2.0 * cpus_per_gpu, "GPU": 2.0}
    assert plan_pool([node], ClusterConfig(), 8).cpus_per_actor == cpus_per_actor
    shared = plan_pool([node], ClusterConfig(gpus_per_actor=0.5), 8)
    assert shared.cpus_per_actor == 1


def test_a_run_that_grows_begins_with_the_transcribers_that_fit():
    growing = ClusterConfig(num_actors=16, min_actors=4)
    pool = plan_pool([GPU_NODE], growing, 256)
    now = plan_pool([GPU_NODE], ClusterConfig(), 256)
    assert (pool.num_actors, now.num_actors) == (16, 8)
    assert pool.num_audio_workers == 2 * now.num_audio_workers
    with pytest.raises(ClusterLacksError, match=r"16 transcribers .* were asked for and 3 fit"):
        plan_pool([{"CPU": 32.0, "GPU": 3.0}], growing, 256)
    assert plan_pool([GPU_NODE, GPU_NODE], growing, 256) == plan_pool(
        [GPU_NODE, GPU_NODE], ClusterConfig(), 256
    )


@pytest.mark.parametrize(
    ("nodes", "config", "sentence"),
    [
        (
            [CPU_NODE],
            ClusterConfig(gpus_per_actor=1.0),
            "1 transcribers of 1 GPU and 1 CPU each were asked for and 0 fit: "
            "the cluster has 0 GPUs and 16 CPUs",
        ),
        (
            [GPU_NODE],
            ClusterConfig(num_actors=9),
            "9 transcribers of 1 GPU and 1 CPU each were asked for and 8 fit",
        ),
        ([{"CPU": 1.0}], ClusterConfig(), "the cluster has 1 CPUs, 1 transcribers take 1 of them"),
        ([], ClusterConfig(), "0 fit: the cluster has 0 GPUs and 0 CPUs"),
    ],
)
def test_what_is_missing_is_one_sentence_with_numbers(nodes, config, sentence):
    with pytest.raises(ClusterLacksError) as told:
        plan_pool(nodes, config, 8)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


@pytest.fixture
def cluster(monkeypatch):
    """One machine; what is free of it is told anew each time, and the last of it again."""
    answers = []

    def free():
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(resources.ray, "nodes", lambda: [{"Alive": True, "Resources": GPU_NODE}])
    monkeypatch.setattr(resources.ray, "available_resources", free)
    monkeypatch.setattr(resources, "POLL_S", 0.01)
    monkeypatch.setattr(resources, "RELEASE_S", 0.05)
    return answers


def test_a_cluster_that_others_hold_is_one_sentence_and_not_a_wait_for_ever(cluster, caplog):
    cluster.append({"CPU": 30.0})
    with pytest.raises(ClusterLacksError) as told:
        pool_for(ClusterConfig(num_actors=2), 8)
    assert str(told.value).startswith("other jobs use the cluster: 0 GPUs and 30 CPUs are free")
    assert "\n" not in str(told.value)
    (said,) = caplog.messages
    assert said == f"waiting up to 0 s: {told.value}"


def test_a_job_that_is_leaving_is_waited_for(cluster, caplog):
    cluster += [{"CPU": 2.0, "GPU": 8.0}, GPU_NODE]
    assert pool_for(ClusterConfig(num_actors=2), 8).num_actors == 2
    assert len(caplog.messages) == 1


def test_half_a_free_cluster_is_enough_to_begin(cluster, caplog):
    cluster.append({"CPU": 12.0, "GPU": 4.0})
    assert pool_for(ClusterConfig(), 8).num_actors == 8
    assert not caplog.messages
