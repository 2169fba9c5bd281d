"""Publishing on workers: tasks stitch and make the bytes, the holder of the lease writes them."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import ray

from nightscribe.cluster.stack_dumps import dump_stacks_on_signal
from nightscribe.publishing import Publisher
from nightscribe.results import (
    Examine,
    NewResults,
    PublishOrder,
    ResultFiles,
    make_results,
    write_results,
)
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import merge
from nightscribe.storage.store import Store

PUBLISH_CPUS = 0.25
POLL_S = 0.2


class ResultWriter(Protocol):
    """Writes new files of the tables, or has them written by the holder of the lease."""

    def submit(self, made: ResultFiles) -> None: ...

    def take_written(self) -> list[ResultFiles]:
        """What was written since the last call."""


class DirectWriter:
    """Of a process that holds the lease."""

    def __init__(self, store: Store, check_lease: Callable[[], None]) -> None:
        self._store, self._check_lease = store, check_lease
        self._written: list[ResultFiles] = []

    def submit(self, made: ResultFiles) -> None:
        write_results(self._store, self._check_lease, made)
        self._written.append(made)

    def take_written(self) -> list[ResultFiles]:
        taken, self._written = self._written, []
        return taken


class PublishTasks:
    """The tasks of one publisher that are under way."""

    def __init__(
        self,
        publisher: Publisher,
        writer: ResultWriter,
        output: str,
        s3: S3Config,
        examine: Examine,
    ) -> None:
        self._publisher, self._writer = publisher, writer
        self._output, self._s3, self._examine = output, s3, examine
        self._orders: set[ray.ObjectRef] = set()
        self._merges: set[ray.ObjectRef] = set()
        self._num_unwritten = 0

    def start(self) -> None:
        """Begin whatever may be published or merged now."""
        for order in self._publisher.orders():
            made = _task(publish_recordings).remote(self._output, self._s3, order, self._examine)
            self._orders.add(made)
        for parts in self._publisher.mergeable():
            self._merges.add(_task(merge_parts).remote(self._output, self._s3, parts))

    def collect(self, timeout_s: float = 0.0) -> NewResults:
        """Hand over what workers have made, and count what was written since the last call."""
        for made in self._ready(timeout_s):
            result = ray.get(made)
            self._merges.discard(made)
            if made in self._orders:
                self._orders.discard(made)
                self._num_unwritten += 1
                self._writer.submit(result)
        new = NewResults()
        for written in self._writer.take_written():
            self._num_unwritten -= 1
            new += self._publisher.mark_shown(written)
        return new

    def collect_all(self) -> Iterator[NewResults]:
        """Start and collect until nothing is left to publish."""
        self.start()
        while self._orders or self._merges or self._num_unwritten:
            yield self.collect(timeout_s=POLL_S)
            self.start()

    def _ready(self, timeout_s: float) -> list[ray.ObjectRef]:
        waiting = [*self._orders, *self._merges]
        if not waiting:
            time.sleep(timeout_s)
            return []
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not ready and timeout_s:
            ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout_s)
        return ready


def _task(function: Any) -> Any:
    return ray.remote(function).options(num_cpus=PUBLISH_CPUS, max_retries=-1)


def publish_recordings(
    output: str, s3: S3Config, order: PublishOrder, examine: Examine
) -> ResultFiles:
    """On a CPU worker."""
    dump_stacks_on_signal()
    return make_results(open_store(output, s3), order, examine)


def merge_parts(output: str, s3: S3Config, parts: list[str]) -> None:
    """On a CPU worker."""
    merge(open_store(output, s3), parts)
