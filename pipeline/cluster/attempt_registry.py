"""Which worker works on what: finds the shard or file that kills its workers.

One actor for each graph. A worker registers everything of a task or packet at once before it
begins, and removes it when it is done. What a dead worker had registered stays, so the worker that
retries it learns how many workers it has killed, and registers it in smaller groups. The registry
also adds up what workers report about engines and stages, and answers whether the run drains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.runs.progress import StageTime
from nightscribe.runs.shard_work import EngineSteps


def this_node() -> str:
    """The id that Ray gives to this machine; empty outside Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


@dataclass(frozen=True, slots=True)
class RegistryReport:
    """What the driver asks for at every heartbeat."""

    engines: list[EngineSteps]
    time_by_stage: dict[str, StageTime]
    num_retries: int
    num_open: int  # shards and files that have begun and not ended
    oldest_name: str  # of them
    num_packets_ended: int


@dataclass
class AttemptRegistry:
    """The registry itself: a plain class that `open_registry` makes an actor.

    A lost machine is no fault of what was running on it. The deaths of a name are the attempts
    that began and did not end on machines that are still alive.
    """

    living_nodes: Callable[[], set[str]] = _living_nodes
    open_attempts: dict[str, list[str]] = field(default_factory=dict)  # by name: their machines
    has_drained: bool = False  # nothing may begin
    has_stopped: bool = False  # and nothing is left that had begun
    num_retries: int = 0
    num_packets_ended: int = 0
    engines: dict[str, EngineSteps] = field(default_factory=dict)
    time_by_stage: dict[str, StageTime] = field(default_factory=dict)

    def begin(self, names: Sequence[str], node: str) -> list[int] | None:
        """How many workers each name has killed; None: the run drains, begin nothing.

        The names without an earlier attempt are registered; the others only with `begin_again`.
        """
        if self.has_drained:
            self.end(names)
            return None
        known = [name for name in names if name in self.open_attempts]
        living = self.living_nodes() if known else set()
        for name in names:
            self.open_attempts.setdefault(name, [])
        deaths = [sum(one in living for one in self.open_attempts[name]) for name in names]
        self.num_retries += len(known)
        for name, num_deaths in zip(names, deaths, strict=True):
            if not num_deaths:
                self.open_attempts[name] = [node]
        return deaths

    def begin_again(self, names: Sequence[str], node: str) -> bool:
        """Register names that were in a dead worker; whether they may begin."""
        if self.has_drained:
            self.end(names)
            return False
        for name in names:
            self.open_attempts.setdefault(name, []).append(node)
        return True

    def end(self, names: Sequence[str]) -> None:
        for name in names:
            self.open_attempts.pop(name, None)

    def end_packet(
        self,
        names: Sequence[str],
        worker: str,
        steps: EngineSteps,
        times: Mapping[str, StageTime],
    ) -> None:
        """The receipts of one more packet are on their way to the driver."""
        self.end(names)
        self.num_packets_ended += 1
        self.engines[worker] = steps
        for stage, time in times.items():
            self.add_stage_time(stage, time)

    def report_engine(self, worker: str, steps: EngineSteps) -> bool:
        """Store the last report of an engine; whether the run drains."""
        self.engines[worker] = steps
        return self.has_drained

    def add_stage_time(self, stage: str, time: StageTime) -> None:
        """Add the time that a worker of this stage worked and waited."""
        self.time_by_stage[stage] = self.time_by_stage.get(stage, StageTime()) + time

    def report(self) -> RegistryReport:
        return RegistryReport(
            engines=list(self.engines.values()),
            time_by_stage=dict(self.time_by_stage),
            num_retries=self.num_retries,
            num_open=len(self.open_attempts),
            oldest_name=next(iter(self.open_attempts), ""),
            num_packets_ended=self.num_packets_ended,
        )

    def open_names(self, most: int) -> list[str]:
        """What has begun and not ended, oldest first."""
        return list(self.open_attempts)[:most]

    def drain(self) -> None:
        """Let what has begun end, and begin nothing else."""
        self.has_drained = True

    def stop(self) -> None:
        """Tell read tasks that are still to start that they need not."""
        self.has_drained = self.has_stopped = True

    def is_draining(self) -> bool:
        return self.has_drained

    def is_stopped(self) -> bool:
        return self.has_stopped


class RegistryHandle(Protocol):
    """The methods of an AttemptRegistry, each with `.remote`."""

    begin: Any
    begin_again: Any
    end: Any
    end_packet: Any
    report_engine: Any
    add_stage_time: Any
    report: Any
    open_names: Any
    drain: Any
    stop: Any
    is_draining: Any
    is_stopped: Any


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
        # Each packet makes several calls; without this the cluster would keep a history of all.
        enable_task_events=False,
    )
    return cast(RegistryHandle, made.remote())
