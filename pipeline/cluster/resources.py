"""What a run needs of the cluster, and what the cluster lacks, before anything waits for it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from pipeline.cluster.config import ClusterConfig

POLL_S = 1.0
MIN_FREE_CPUS = 0.25


class ClusterLacksError(Exception):
    """The cluster is too small for what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The workers of a run."""

    num_actors: int
    gpus_per_actor: float
    cpus_per_actor: float = 1.0
    num_decoders: int
    num_slots: int | None  # of each actor, where it is known


def pool_for(config: ClusterConfig, num_slots: int | None) -> Pool:
    """The workers that fit, waiting as long as the configuration says.

    Raises ClusterLacksError, which tells in one sentence what is missing.
    """
    deadline_s = time.monotonic() + config.wait_s
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        try:
            return plan_pool(nodes, config, num_slots)
        except ClusterLacksError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(POLL_S)


def plan_pool(
    nodes: list[Mapping[str, float]], config: ClusterConfig, num_slots: int | None
) -> Pool:
    """The workers that fit on machines with these resources."""
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    gpus_per_actor = config.gpus_per_actor
    if gpus_per_actor is None:
        gpus_per_actor = 1.0 if gpus else 0.0
    cpus_per_actor = _cpus_per_actor(nodes, gpus_per_actor, config)
    places = sum(_places(node, gpus_per_actor, cpus_per_actor) for node in nodes)
    wanted = config.num_actors or (max(places, 1) if gpus_per_actor else 1)
    if wanted > places:
        each = f"{gpus_per_actor:g} GPU and {cpus_per_actor:g} CPU"
        raise ClusterLacksError(_lack(wanted, places, each, gpus, cpus))
    free_cpus = cpus - wanted * cpus_per_actor
    fitting = int((free_cpus - MIN_FREE_CPUS) / config.cpus_per_decoder)
    if fitting < 1:
        raise ClusterLacksError(
            f"the cluster has {cpus:g} CPUs, {wanted} transcribers take "
            f"{wanted * cpus_per_actor:g} of them and decoding needs "
            f"{config.cpus_per_decoder + MIN_FREE_CPUS:g} more: add CPUs, or lower "
            "cluster.cpus_per_actor or cluster.cpus_per_decoder"
        )
    return Pool(
        num_actors=wanted,
        gpus_per_actor=gpus_per_actor,
        cpus_per_actor=cpus_per_actor,
        num_decoders=min(config.num_decoders or fitting, fitting),
        num_slots=num_slots,
    )


def _cpus_per_actor(
    nodes: list[Mapping[str, float]], gpus_per_actor: float, config: ClusterConfig
) -> float:
    if config.cpus_per_actor is not None:
        return config.cpus_per_actor
    if gpus_per_actor or not nodes:
        return 1.0
    actors_per_node = -(-(config.num_actors or 1) // len(nodes))
    most_cpus = max(node.get("CPU", 0.0) for node in nodes)
    left = most_cpus - config.cpus_per_decoder - MIN_FREE_CPUS
    return float(max(int(left / actors_per_node), 1))


def _places(node: Mapping[str, float], gpus: float, cpus: float) -> int:
    """How many actors a machine takes; an actor does not spread over GPUs it shares."""
    by_cpu = int(node.get("CPU", 0.0) / cpus) if cpus else 10**6
    if not gpus:
        return by_cpu if node.get("CPU", 0.0) else 0
    there = int(node.get("GPU", 0.0))
    by_gpu = there * int(1 / gpus + 1e-9) if gpus <= 1 else int(there / gpus)
    return min(by_cpu, by_gpu)


def _lack(wanted: int, places: int, each: str, gpus: float, cpus: float) -> str:
    return (
        f"{wanted} transcribers of {each} each were asked for and {places} fit: the cluster has "
        f"{gpus:g} GPUs and {cpus:g} CPUs; add machines, lower cluster.num_actors or "
        "cluster.gpus_per_actor, or let cluster.wait_s wait for machines that are on their way"
    )
