"""A run on Ray: one graph, or several executors with a graph each."""

import threading
from collections.abc import Callable
from functools import partial

import ray

from nightscribe.cluster.execution import Execution, Work, check_ray
from nightscribe.cluster.executors import Executors
from nightscribe.cluster.publish_tasks import DirectWriter
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.stack_dumps import stacks_of_cluster
from nightscribe.runs.attempt import Begun, RunSpec, work_through
from nightscribe.runs.config import num_executors
from nightscribe.runs.progress import Progress


def transcribe(
    spec: RunSpec, pool: Pool, stop: threading.Event, show: Callable[[Progress], None]
) -> Progress:
    """`work_through` by these workers of the Ray that this process is connected to."""
    return work_through(spec, partial(RayExecution, pool), stop, show)


class RayExecution:
    """The execution of an attempt, by workers."""

    def __init__(self, pool: Pool, begun: Begun) -> None:
        spec = begun.spec
        self._work = Work(
            stages=spec.stages,
            examine=spec.examine,
            pool=pool,
            cluster=spec.cluster,
            intervals=spec.intervals,
            revision=begun.revision,
        )
        self._inner = _execution(begun, num_executors(spec.cluster, pool.num_actors))

    def work(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        def checked() -> None:
            check_ray(stop)
            tick()

        self._inner.work(self._work, stop, checked)

    def num_left(self) -> int:
        return self._inner.num_left()

    @property
    def num_live_steps(self) -> int:
        return self._inner.num_live_steps

    def describe(self) -> str:
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        nodes = f"{num_nodes} nodes, free resources: {ray.available_resources()}"
        return f"{self._inner.describe()}\n{nodes}"

    def stacks_of_workers(self, timeout_s: float) -> str:
        return stacks_of_cluster(timeout_s)


def _execution(begun: Begun, count: int) -> Execution | Executors:
    """With as many executors as that."""
    writer = DirectWriter(begun.store, begun.check_lease)
    known = begun.publisher, begun.index, begun.progress, writer
    if count > 1:
        return Executors(*known, count, partial(begun.restored, "none"))
    return Execution(*known)
