"""Where an attempt is executed: by workers of Ray, or in this process, where little is left."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from nightscribe.jobs.shell.display import LOADING_HERE, Display
from nightscribe.runs.config import ClusterConfig, RayConfig

if TYPE_CHECKING:
    from nightscribe.runs.attempt import Begun, Execution

log = logging.getLogger(__name__)

# What one device hears in about the time that Ray takes to start, and what a process may lose.
SMALL_S = 600.0
SMALL_RECORDINGS = 100
# Whoever sets these asks for workers of Ray.
OF_WORKERS = ("num_actors", "min_actors", "gpus_per_actor", "cpus_per_actor", "drivers")
MAX_READERS = 4
# Where the engine chooses its number of slots itself.
USUAL_SLOTS = 32


class WorkConfig(Protocol):
    """What decides where a run is executed."""

    @property
    def cluster(self) -> ClusterConfig: ...
    @property
    def ray(self) -> RayConfig: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What the bill and the limits of a night need to know."""

    num_devices: float  # GPUs, or workers without one, which are paid for as well
    num_slots: int  # of all of them


class Workplace:
    """`with Workplace(...) as place:`, then `open` an execution, once it is known what is left."""

    def __init__(
        self,
        config: WorkConfig,
        num_slots: int | None,
        display: Display,
    ) -> None:
        self._config, self._num_slots, self._display = config, num_slots, display
        self._connection = ExitStack()
        self._is_connected = False
        self.workers = Workers(num_devices=1.0, num_slots=num_slots or USUAL_SLOTS)

    def __enter__(self) -> Self:
        """A cluster is looked for at once: it takes seconds to find out that there is none."""
        if self._config.ray.address:
            self._connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.__exit__(kind, error, trace)

    def open(self, begun: "Begun") -> "Execution":
        is_small = is_small_here(begun) and may_be_local(self._config, os.environ)
        if is_small or not begun.progress.num_left:
            return self._open_local(begun)
        log.info("%d recordings are left, for workers of Ray", begun.progress.num_left)
        self._connect()
        from nightscribe.cluster.driver import RayExecution
        from nightscribe.cluster.resources import pool_for

        pool = pool_for(self._config.cluster, self._num_slots)
        self.workers = Workers(
            num_devices=pool.num_actors * (pool.gpus_per_actor or 1.0),
            num_slots=pool.num_actors * (pool.num_slots or USUAL_SLOTS),
        )
        return RayExecution(pool, begun)

    def logs_of_workers(self) -> Path | None:
        """The folder of the logs of other processes; None where there is none here."""
        if not self._is_connected:
            return None
        from nightscribe.cluster.ray_session import session_folder

        return session_folder()

    def _open_local(self, begun: "Begun") -> "Execution":
        from nightscribe.local.execution import LocalExecution

        log.info("%d recordings are left, for this process", begun.progress.num_left)
        self._display.loading = LOADING_HERE
        stages = begun.spec.stages
        if begun.spec.load_here is not None:
            left_s = begun.publisher.left_of(begun.index)["estimated_s"].to_pylist()
            load = partial(begun.spec.load_here, left_s)
            stages = replace(stages, make_transcriber=load)
        most = min(os.cpu_count() or 1, MAX_READERS)
        num_readers = min(self._config.cluster.num_audio_workers or most, most)
        return LocalExecution(begun, stages, num_readers)

    def _connect(self) -> None:
        if self._is_connected:
            return
        from nightscribe.cluster.ray_session import connected

        address = self._config.ray.address
        self._display.begin("connecting to Ray" if address else "starting Ray")
        self._connection.enter_context(connected(self._config.ray, self._config.cluster))
        self._is_connected = True


def may_be_local(config: WorkConfig, environment: Mapping[str, str]) -> bool:
    """Whether nothing asks for Ray; in a job of Ray, RAY_ADDRESS does."""
    cluster = config.cluster
    if cluster.in_process == "never" or config.ray.address or environment.get("RAY_ADDRESS"):
        return False
    return all(getattr(cluster, name) is None for name in OF_WORKERS)


def is_small_here(begun: "Begun") -> bool:
    """Whether little is left, and the last attempt lived to tell how it ended.

    A shard that ends its process is found by workers that may die.
    """
    if begun.has_died_before or begun.spec.load_here is None:
        return False
    progress = begun.progress
    return progress.num_left <= SMALL_RECORDINGS and progress.estimated_s <= SMALL_S
