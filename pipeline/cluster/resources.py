"""The workers that fit a cluster; says what the cluster lacks before anything waits for it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import ray
from tenacity import (
    RetryCallState,
    retry,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from nightscribe.errors import NightscribeError
from nightscribe.runs.config import ClusterConfig

POLL_S = 1.0
# Ray may take this long to free the resources of a job that has ended.
RELEASE_S = 30.0
MIN_FREE_CPUS = 0.25
# Stitching and writing tables for one GPU.
PUBLISH_CPUS_PER_GPU = 0.25
SHARED_CPU = 0.5

Made = TypeVar("Made")

log = logging.getLogger(__name__)


class ClusterLacksError(NightscribeError):
    """The cluster is too small for what was asked."""

    fault = "environment"


ROOMY_CPUS_PER_GPU = 8  # from here on a second CPU for a transcriber is not missed by decoders


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The workers of a run."""

    num_actors: int
    gpus_per_actor: float
    cpus_per_actor: float = 1.0
    num_audio_workers: int
    num_slots: int | None  # of each actor, where it is known


def pool_for(config: ClusterConfig, num_slots: int | None) -> Pool:
    """The workers that fit, as soon as the first of them can start.

    Raises ClusterLacksError, which says in one sentence what is missing, if that did not change in
    the time given to machines to join and to other jobs to end.
    """
    pool = _wait_for(lambda: plan_pool(_machines(), config, num_slots), config.wait_s)
    wait_s = max(config.wait_s, RELEASE_S)
    _wait_for(lambda: check_free(ray.available_resources(), pool, config), wait_s)
    return pool


def _machines() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _wait_for(attempt: Callable[[], Made], wait_s: float) -> Made:
    """Call `attempt` again until it raises no ClusterLacksError; what it returns."""
    repeated = retry(
        retry=retry_if_exception_type(ClusterLacksError),
        stop=stop_after_delay(wait_s),
        wait=wait_fixed(POLL_S),
        before_sleep=_log_once(wait_s),
        reraise=True,
    )
    return repeated(attempt)()


def _log_once(wait_s: float) -> Callable[[RetryCallState], None]:
    def log_first(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("waiting up to %.0f s: %s", wait_s, state.outcome.exception())

    return log_first


def check_free(free: Mapping[str, float], pool: Pool, config: ClusterConfig) -> None:
    """Raise ClusterLacksError unless there is room for one transcriber and one audio worker."""
    needed = {
        "GPU": pool.gpus_per_actor,
        "CPU": pool.cpus_per_actor + config.cpus_per_audio_worker + MIN_FREE_CPUS,
    }
    if all(free.get(kind, 0.0) >= amount for kind, amount in needed.items()):
        return
    raise ClusterLacksError(
        f"other jobs use the cluster: {free.get('GPU', 0.0):g} GPUs and {free.get('CPU', 0.0):g} "
        f"CPUs are free, a transcriber and an audio worker need {needed['GPU']:g} and "
        f"{needed['CPU']:g}; end those jobs, or raise cluster.wait_s to wait for them"
    )


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
    if min(config.min_actors or wanted, wanted) > places:
        each = f"{gpus_per_actor:g} GPU and {cpus_per_actor:g} CPU"
        raise ClusterLacksError(_too_few(wanted, places, each, gpus, cpus))
    num_now = min(wanted, places)
    publish_cpus = max(MIN_FREE_CPUS, PUBLISH_CPUS_PER_GPU * num_now * min(gpus_per_actor, 1.0))
    taken_cpus = num_now * cpus_per_actor
    fitting = int((cpus - taken_cpus - publish_cpus) / config.cpus_per_audio_worker)
    if fitting < 1:
        raise ClusterLacksError(_too_few_cpus(cpus, num_now, taken_cpus, publish_cpus, config))
    # Machines that join bring CPUs for as many more.
    fitting = fitting * wanted // num_now
    return Pool(
        num_actors=wanted,
        gpus_per_actor=gpus_per_actor,
        cpus_per_actor=cpus_per_actor,
        num_audio_workers=min(config.num_audio_workers or fitting, fitting),
        num_slots=num_slots,
    )


def _cpus_per_actor(
    nodes: list[Mapping[str, float]], gpus_per_actor: float, config: ClusterConfig
) -> float:
    if config.cpus_per_actor is not None:
        return config.cpus_per_actor
    if not nodes:
        return 1.0
    most_cpus = max(node.get("CPU", 0.0) for node in nodes)
    left = most_cpus - config.cpus_per_audio_worker - MIN_FREE_CPUS
    # On two CPUs both have to share one; Ray only counts.
    least = SHARED_CPU if SHARED_CPU <= left < 1 else 1.0
    if gpus_per_actor:
        with_gpus = [node for node in nodes if node.get("GPU", 0.0)]
        is_roomy = bool(with_gpus) and all(map(_has_room, with_gpus))
        return 2.0 if gpus_per_actor >= 1 and is_roomy else least
    num_now = min(config.num_actors or 1, config.min_actors or config.num_actors or 1)
    actors_per_node = -(-num_now // len(nodes))
    return max(float(int(left / actors_per_node)), least)


def _has_room(node: Mapping[str, float]) -> bool:
    """Whether the engine's thread can have a CPU of its own, beside one for all other threads."""
    return node.get("CPU", 0.0) >= ROOMY_CPUS_PER_GPU * node["GPU"]


def _places(node: Mapping[str, float], gpus: float, cpus: float) -> int:
    """How many actors fit a machine; one that takes a share of a GPU uses one GPU alone."""
    by_cpu = int(node.get("CPU", 0.0) / cpus) if cpus else 10**6
    if not gpus:
        return by_cpu if node.get("CPU", 0.0) else 0
    num_gpus = int(node.get("GPU", 0.0))
    by_gpu = num_gpus * int(1 / gpus + 1e-9) if gpus <= 1 else int(num_gpus / gpus)
    return min(by_cpu, by_gpu)


def _too_few(wanted: int, places: int, each: str, gpus: float, cpus: float) -> str:
    return (
        f"{wanted} transcribers of {each} each were asked for and {places} fit: the cluster has "
        f"{gpus:g} GPUs and {cpus:g} CPUs; add machines, lower cluster.num_actors or "
        "cluster.gpus_per_actor, raise cluster.wait_s to wait for more machines, or set "
        "cluster.min_actors to begin with fewer"
    )


def _too_few_cpus(
    cpus: float, num_actors: int, taken_cpus: float, publish_cpus: float, config: ClusterConfig
) -> str:
    return (
        f"the cluster has {cpus:g} CPUs, {num_actors} transcribers take {taken_cpus:g} of them, "
        f"and decoding and publishing need {config.cpus_per_audio_worker + publish_cpus:g} more: "
        "add CPUs, or lower cluster.cpus_per_actor or cluster.cpus_per_audio_worker"
    )
