"""One attempt at a run as a command makes it, with its limits, display, logs and receipt."""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from nightscribe.budget import Limits, limits_of
from nightscribe.jobs import INTERRUPTED
from nightscribe.jobs.shell.display import Display
from nightscribe.jobs.shell.logs import Log
from nightscribe.jobs.shell.night_log import NightLog
from nightscribe.jobs.shell.notifications import notify_end, notify_failure
from nightscribe.jobs.shell.workplace import Workplace
from nightscribe.runs.config import ClusterConfig
from nightscribe.storage.nights import NightReceipt
from nightscribe.storage.store import Store

if TYPE_CHECKING:
    from nightscribe.runs.attempt import Begun, Execution, RunSpec
    from nightscribe.runs.progress import Progress

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
    place: Workplace
    run_log: Log
    display: Display

    def run(self, spec: "RunSpec", stop: threading.Event) -> tuple["Progress", NightReceipt]:
        """Until the run is finished or stopped; what the night did is stored in any case."""
        from nightscribe.runs.attempt import work_through

        output = spec.stages.output
        night_log: NightLog | None = None

        def opened(begun: "Begun") -> "Execution":
            nonlocal night_log
            execution = self.place.open(begun)
            night_log = self._night_log(stop)
            return execution

        def report(progress: "Progress") -> None:
            self.display.show(progress)
            self.run_log.publish_when_due(self.store, self.place.logs_of_workers())
            assert night_log is not None, "whoever reports is open"
            night_log.show(progress)

        try:
            progress = work_through(spec, opened, stop, report)
            assert night_log is not None
            receipt = night_log.end(progress)
            notify_end(output, receipt)
            return progress, receipt
        except KeyboardInterrupt:
            log.warning("recordings in progress are not finished; %s", RESUME)
            raise
        except Exception as error:
            if night_log is not None:
                night_log.fail(" ".join(str(error).split()))
            notify_failure(output, error)
            raise
        finally:
            self.run_log.publish(self.store, self.place.logs_of_workers())

    def _night_log(self, stop: threading.Event) -> NightLog:
        workers = self.place.workers
        most = limits(self.config, workers.num_devices)
        return NightLog(self.store, workers, most, self.config.currency, stop)


def exit_code(progress: "Progress", max_failures: int | None, is_limited: bool = False) -> int:
    """A night that stopped at its deadline or budget has done what it was asked for."""
    if progress.state != "finished" and not is_limited:
        return INTERRUPTED
    too_many = max_failures is not None and progress.num_failures > max_failures
    return TOO_MANY_FAILURES if too_many else 0
