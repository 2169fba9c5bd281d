"""Who began what and has not ended it: how a shard or file that kills its worker is found out.

One actor for a run. Workers announce what they begin before they begin it; what a dead worker had
begun stays on the page, and whoever begins it again reads how often that has happened.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster.stopwatch import Spent


@dataclass(frozen=True, slots=True)
class EngineTold:
    """What one actor last said of its engine."""

    num_slot_steps: int
    num_live_steps: int


@dataclass
class Ledger:
    """The page itself; a plain class, made an actor by `open_ledger`."""

    begun: Counter[str] = field(default_factory=Counter)
    is_draining: bool = False
    num_kills: int = 0
    engines: dict[str, EngineTold] = field(default_factory=dict)
    spent_by_stage: dict[str, Spent] = field(default_factory=dict)

    def look_up(self, names: Sequence[str]) -> list[int] | None:
        """How many workers each name has killed; None: begin nothing any more."""
        return None if self.is_draining else [self.begun[name] for name in names]

    def begin(self, name: str) -> bool:
        """Announce one; whether it may still begin."""
        if self.is_draining:
            return False
        self.num_kills += self.begun[name] > 0
        self.begun[name] += 1
        return True

    def end(self, name: str, actor: str = "", told: EngineTold | None = None) -> None:
        self.begun.pop(name, None)
        if told is not None:
            self.engines[actor] = told

    def spend(self, stage: str, spent: Spent) -> None:
        """Add what a worker of this stage did and waited."""
        self.spent_by_stage[stage] = self.spent_by_stage.get(stage, Spent()) + spent

    def spent(self) -> dict[str, Spent]:
        """What all workers of each stage did and waited, together."""
        return self.spent_by_stage

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
    drain: Any
    spend: Any
    spent: Any
    told: Any


def open_ledger() -> LedgerHandle:
    """A ledger that survives every worker of the run and dies with its driver."""
    # A CPU of its own would be one less for decoding; on the driver's machine it dies only with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    made = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here)
    return cast(LedgerHandle, made.remote())
