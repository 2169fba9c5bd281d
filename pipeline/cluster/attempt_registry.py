"""Who began what and has not ended it: how a shard or file that kills its worker is found out.

One actor for a run. Workers announce what they begin before they begin it; what a dead worker had
begun stays on the page, and whoever begins it again reads how often that has happened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.cluster.stage_time import Spent


@dataclass(frozen=True, slots=True)
class EngineTold:
    """What one actor last said of its engine."""

    num_slot_steps: int
    num_live_steps: int


def here() -> str:
    """The machine of this process, as Ray names it; outside Ray there is only one."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


@dataclass
class Ledger:
    """The page itself; a plain class, made an actor by `open_ledger`.

    Whoever was at work on a machine that went away is not to blame: a name has killed as many
    workers as have begun it, not ended it, and died on machines that are still there.
    """

    living_nodes: Callable[[], set[str]] = _living_nodes
    begun: dict[str, list[str]] = field(default_factory=dict)  # by name: on which machines
    is_draining: bool = False
    num_kills: int = 0
    engines: dict[str, EngineTold] = field(default_factory=dict)
    spent_by_stage: dict[str, Spent] = field(default_factory=dict)

    def look_up(self, names: Sequence[str]) -> list[int] | None:
        """How many workers each name has killed; None: begin nothing any more."""
        if self.is_draining:
            return None
        living = self.living_nodes() if any(name in self.begun for name in names) else set()
        return [sum(node in living for node in self.begun.get(name, ())) for name in names]

    def begin(self, name: str, node: str) -> bool:
        """Announce one on a machine; whether it may still begin."""
        if self.is_draining:
            return False
        self.num_kills += name in self.begun
        self.begun.setdefault(name, []).append(node)
        return True

    def end(self, name: str, actor: str = "", told: EngineTold | None = None) -> None:
        self.begun.pop(name, None)
        if told is not None:
            self.tell(actor, told)

    def tell(self, actor: str, told: EngineTold) -> None:
        self.engines[actor] = told

    def spend(self, stage: str, spent: Spent) -> None:
        """Add what a worker of this stage did and waited."""
        self.spent_by_stage[stage] = self.spent_by_stage.get(stage, Spent()) + spent

    def spent(self) -> dict[str, Spent]:
        """What all workers of each stage did and waited, together."""
        return self.spent_by_stage

    def open_names(self) -> list[str]:
        """What was begun and has not ended, the oldest first."""
        return list(self.begun)

    def drain(self) -> None:
        """Let what was begun end, and nothing else begin."""
        self.is_draining = True

    def told(self) -> tuple[list[EngineTold], int]:
        """Every engine's last word, and how often something was begun again after a death."""
        return list(self.engines.values()), self.num_kills


class LedgerHandle(Protocol):
    """The methods of a Ledger, each with `.remote`."""

    look_up: Any
    begin: Any
    end: Any
    tell: Any
    open_names: Any
    drain: Any
    spend: Any
    spent: Any
    told: Any


def open_ledger() -> LedgerHandle:
    """A ledger that survives every worker of the run and dies with its driver.

    Should its machine be lost, an empty one begins elsewhere: nobody is blamed for what was open.
    """
    # A CPU of its own would be one less for decoding; on the driver's machine it dies only with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    made = ray.remote(Ledger).options(
        num_cpus=0,
        scheduling_strategy=here,
        max_restarts=-1,
        max_task_retries=-1,
        # Of its calls, several for each shard, the cluster would keep a history.
        enable_task_events=False,
    )
    return cast(LedgerHandle, made.remote())
