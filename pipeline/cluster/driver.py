"""A run from its lease to its end, in as many attempts as it takes."""

import logging
import threading
from collections import Counter
from collections.abc import Callable

from nightscribe.cluster.attempt import Attempt
from nightscribe.cluster.progress import Progress
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.run_spec import Order
from nightscribe.cluster.watchdog import Watchdog
from nightscribe.planning import duplicates
from nightscribe.publishing import Publisher
from nightscribe.storage.lease import Lease, LeaseLostError, take
from nightscribe.storage.opening import open_store
from nightscribe.storage.published import published_failures
from nightscribe.storage.run import begin, stored_plan
from nightscribe.storage.store import Store

CONFIG_KEY = "_run/config.yaml"

log = logging.getLogger(__name__)


def transcribe(
    order: Order, pool: Pool, stop: threading.Event, tell: Callable[[Progress], None]
) -> Progress:
    """Do what is left of the run until it is finished, or drained because `stop` was set.

    Raises LeaseHeldError, AnotherRunError, StorageError, StalledError or RunBrokenError; the same
    order continues where this attempt ended, whatever ended it.
    """
    store = open_store(order.stages.output, order.stages.s3)
    with take(store, order.lease) as lease:
        attempt = _attempt(store, lease, order)
        with Watchdog(store, order.cluster.stall_timeout_s, attempt.where) as watchdog:
            try:
                attempt.work_off(pool, stop, tell, watchdog)
                attempt.finish()
            except LeaseLostError:
                # The heartbeat is another run's now.
                raise
            except KeyboardInterrupt:
                attempt.end("stopped", "ended before what was begun was finished")
                raise
            except BaseException as error:
                attempt.end("failed", " ".join(str(error).split()))
                raise
        tell(attempt.progress)
        return attempt.progress


def _attempt(store: Store, lease: Lease, order: Order) -> Attempt:
    store.sweep()
    run = begin(store, order.plan, order.settings)
    store.write(CONFIG_KEY, order.config_text.encode())
    publisher = _publisher(store, lease, order)
    log.info("run %s begins or goes on", run.run_id, extra={"run_id": run.run_id})
    return Attempt(store, publisher, _progress(store, publisher, run.run_id), order)


def _publisher(store: Store, lease: Lease, order: Order) -> Publisher:
    copies = duplicates(stored_plan(store))
    publisher = Publisher(store, lease.check, copies, order.examine)
    publisher.recall(order.retry)
    # What an earlier attempt committed and did not live to show.
    publisher.publish()
    return publisher


def _progress(store: Store, publisher: Publisher, run_id: str) -> Progress:
    progress = Progress(run_id=run_id, num_recordings=0, estimated_s=0.0)
    copies = Counter(one.duplicate_of for one in stored_plan(store))
    for planned in stored_plan(store):
        progress.num_recordings += 1
        if publisher.is_remaining(planned):
            progress.num_left += 1
            progress.estimated_s += planned.estimated_s
            progress.num_done_before -= 1 + copies[planned.recording.recording_id]
    progress.num_done_before += progress.num_recordings
    progress.num_failures_before = sum(
        row.failed_shard is None for row in published_failures(store)
    )
    return progress
