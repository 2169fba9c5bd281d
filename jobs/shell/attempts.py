"""One attempt at a run as a command makes it, with its limits, display, logs and receipt."""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from nightscribe.budget import Limits, limits_of
from nightscribe.cluster.config import ClusterConfig
from nightscribe.jobs import INTERRUPTED
from nightscribe.jobs.shell.display import Display
from nightscribe.jobs.shell.logs import Log
from nightscribe.jobs.shell.night_log import NightLog
from nightscribe.jobs.shell.notifications import notify_end, notify_failure
from nightscribe.storage.nights import NightReceipt
from nightscribe.storage.store import Store

if TYPE_CHECKING:
    from nightscribe.cluster.driver import RunSpec
    from nightscribe.cluster.progress import Progress

TOO_MANY_FAILURES = 1
RESUME = "run the same command to resume"

log = logging.getLogger(__name__)


class RunConfig(Protocol):
    """What every command that works through a plan is asked."""

    @property
    def cluster(self) -> ClusterConfig: ...
    @property
    def deadline(self) -> str | None: ...
    @property
    def budget(self) -> float | None: ...
    @property
    def price_per_gpu_hour(self) -> float | None: ...
    @property
    def currency(self) -> str: ...


def limits(config: RunConfig, num_gpus: float) -> Limits:
    """When a run on that many GPUs ends early; raises ValueError for what cannot be."""
    price, now = config.price_per_gpu_hour, datetime.now()
    return limits_of(config.deadline, config.budget, price, config.currency, num_gpus, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellAttempt:
    """What surrounds the driver."""

    store: Store
    config: RunConfig
    num_slots: int | None
    run_log: Log
    display: Display

    def run(self, spec: "RunSpec", stop: threading.Event) -> tuple["Progress", NightReceipt]:
        """Until the run is finished or stopped; what the night did is stored in any case."""
        from nightscribe.cluster.driver import transcribe
        from nightscribe.cluster.ray_session import session_folder
        from nightscribe.cluster.resources import pool_for

        output = spec.stages.output
        pool = pool_for(self.config.cluster, self.num_slots)
        most = limits(self.config, pool.num_actors * (pool.gpus_per_actor or 1.0))
        night_log = NightLog(self.store, pool, most, self.config.currency, stop)

        def report(progress: "Progress") -> None:
            self.display.show(progress)
            self.run_log.publish_when_due(self.store, session_folder())
            night_log.show(progress)

        try:
            progress = transcribe(spec, pool, stop, report)
            receipt = night_log.end(progress)
            notify_end(output, receipt)
            return progress, receipt
        except KeyboardInterrupt:
            log.warning("recordings in progress are not finished; %s", RESUME)
            raise
        except Exception as error:
            night_log.fail(" ".join(str(error).split()))
            notify_failure(output, error)
            raise
        finally:
            self.run_log.publish(self.store, session_folder())


def exit_code(progress: "Progress", max_failures: int | None, is_limited: bool = False) -> int:
    """A night that stopped at its deadline or budget has done what it was asked for."""
    if progress.state != "finished" and not is_limited:
        return INTERRUPTED
    too_many = max_failures is not None and progress.num_failures > max_failures
    return TOO_MANY_FAILURES if too_many else 0
