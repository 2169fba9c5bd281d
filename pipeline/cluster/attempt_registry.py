"""Which worker works on what: finds the shard or file that kills its workers.

One actor for each run. A worker registers a shard or file before it begins and removes it when it
is done. What a dead worker had registered stays, so the worker that retries it learns how many
workers it has killed. The registry also adds up what workers report about engines and stages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.cluster.progress import StageTime


@dataclass(frozen=True, slots=True)
class EngineSteps:
    """What one worker last reported about its engine."""

    num_slot_steps: int
    num_live_steps: int


def this_node() -> str:
    """The id that Ray gives to this machine; empty outside Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


@dataclass
class AttemptRegistry:
    """The registry itself: a plain class that `open_registry` makes an actor.

    A lost machine is no fault of what was running on it. The deaths of a name are the attempts
    that began and did not end on machines that are still alive.
    """

    living_nodes: Callable[[], set[str]] = _living_nodes
    open_attempts: dict[str, list[str]] = field(default_factory=dict)  # by name: their machines
    is_draining: bool = False
    num_retries: int = 0
    engines: dict[str, EngineSteps] = field(default_factory=dict)
    time_by_stage: dict[str, StageTime] = field(default_factory=dict)

    def worker_deaths(self, names: Sequence[str]) -> list[int] | None:
        """How many workers each name has killed; None: the run drains, begin nothing."""
        if self.is_draining:
            return None
        is_any_open = any(name in self.open_attempts for name in names)
        living = self.living_nodes() if is_any_open else set()
        return [sum(node in living for node in self.open_attempts.get(name, ())) for name in names]

    def begin(self, name: str, node: str) -> bool:
        """Register an attempt on a machine; whether it may begin."""
        if self.is_draining:
            return False
        self.num_retries += name in self.open_attempts
        self.open_attempts.setdefault(name, []).append(node)
        return True

    def end(self, name: str, worker: str = "", steps: EngineSteps | None = None) -> None:
        self.open_attempts.pop(name, None)
        if steps is not None:
            self.report_engine(worker, steps)

    def report_engine(self, worker: str, steps: EngineSteps) -> None:
        self.engines[worker] = steps

    def engine_reports(self) -> tuple[list[EngineSteps], int]:
        """The last report of every engine, and the number of retries after worker deaths."""
        return list(self.engines.values()), self.num_retries

    def add_stage_time(self, stage: str, time: StageTime) -> None:
        """Add the time that a worker of this stage worked and waited."""
        self.time_by_stage[stage] = self.time_by_stage.get(stage, StageTime()) + time

    def stage_times(self) -> dict[str, StageTime]:
        """The time that all workers of each stage worked and waited."""
        return self.time_by_stage

    def open_names(self) -> list[str]:
        """What has begun and not ended, oldest first."""
        return list(self.open_attempts)

    def drain(self) -> None:
        """Let what has begun end, and begin nothing else."""
        self.is_draining = True


class RegistryHandle(Protocol):
    """The methods of an AttemptRegistry, each with `.remote`."""

    worker_deaths: Any
    begin: Any
    end: Any
    report_engine: Any
    engine_reports: Any
    add_stage_time: Any
    stage_times: Any
    open_names: Any
    drain: Any


def open_registry() -> RegistryHandle:
    """A registry that survives every worker of the run and ends with its driver.

    If its machine is lost, an empty registry starts elsewhere and forgets earlier deaths.
    """
    # Without a CPU of its own, which decoding needs; on the driver's machine, whose loss ends both.
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    made = ray.remote(AttemptRegistry).options(
        num_cpus=0,
        scheduling_strategy=node,
        max_restarts=-1,
        max_task_retries=-1,
        # Each shard makes several calls; without this the cluster would keep a history of all.
        enable_task_events=False,
    )
    return cast(RegistryHandle, made.remote())
