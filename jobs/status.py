"""`nightscribe status OUTPUT`: show the progress of a run, or of all runs below a prefix."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING
from rich.table import Table

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import clock, console
from nightscribe.options import group, option
from nightscribe.reading.run_status import STATUS_KEY, read_status
from nightscribe.storage.locations import open_store
from nightscribe.storage.s3 import S3Config

SILENT_AFTER_S = 120.0
NOT_FINISHED = 1
ALIVE = ("running", "draining")


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """Show the progress of a run; the exit code is 0 once it is finished.

    Where no run is at the location itself, all runs below it are listed.
    """

    run: str = option(MISSING, "output of a run, or a folder of several: a path or s3://")
    format: str = option("table", "output format", choices=("table", "json"))
    s3: S3Config = group(S3Config, "access to object stores")


def show_status(config: StatusConfig) -> int:
    below = [] if read_status(open_store(config.run, config.s3)) else list(_below(config))
    if below:
        return _show_all(below, config)
    status = status_now(config.run, config.s3)
    if config.format == "json":
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
    else:
        console().print(_table(status))
    return 0 if status["state"] == "finished" else NOT_FINISHED


def _below(config: StatusConfig) -> Iterator[str]:
    """The names of the outputs below a prefix."""
    for entry in open_store(config.run, config.s3).entries():
        if entry.key.endswith(f"/{STATUS_KEY}"):
            yield entry.key.removesuffix(f"/{STATUS_KEY}")


def _show_all(names: Sequence[str], config: StatusConfig) -> int:
    """A line for each run, those that need somebody first."""
    root = config.run.rstrip("/")
    statuses = {name: status_now(f"{root}/{name}", config.s3) for name in names}
    if config.format == "json":
        sys.stdout.write(json.dumps(statuses, indent=2) + "\n")
    else:
        for name, status in sorted(statuses.items(), key=_urgency):
            console(soft_wrap=True).print(_line(name, status))
    is_done = all(status["state"] == "finished" for status in statuses.values())
    return 0 if is_done else NOT_FINISHED


def _urgency(named: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    name, status = named
    order = ("silent", "failed", "stopped", *ALIVE)
    return order.index(status["state"]) if status["state"] in order else len(order), name


def _line(name: str, status: dict[str, Any]) -> str:
    done = f"{status['num_done']:,} of {status['num_recordings']:,}"
    failed = f", {status['num_failures']:,} failed" if status["num_failures"] else ""
    detail = f"  {status['detail']}" if status["detail"] else ""
    return f"{status['state']:<9} {name}  {done}{failed}  {status['updated_at'][:16]}{detail}"


def status_now(run: str, s3: S3Config) -> dict[str, Any]:
    """The last heartbeat; the state is `silent` when it is too old for a run that is alive."""
    store = open_store(run, s3)
    status = dict(read_status(store))
    if not status:
        raise ValueError(f"{run}: no run has written a heartbeat here")
    # By the clock of the store only: those of this machine and of the driver may be wrong.
    status["silent_s"] = max(round(store.age_s(STATUS_KEY)), 0)
    if status["state"] in ALIVE and status["silent_s"] > SILENT_AFTER_S:
        status["state"] = "silent"
        status["detail"] = (
            "the driver has died or lost its connection; run the same command to resume"
        )
    return status


def _table(status: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, title=f"run {status['run_id']} {status['state']}")
    table.add_row("recordings", f"{status['num_done']:,} of {status['num_recordings']:,}")
    table.add_row("failed", f"{status['num_failures']:,}")
    table.add_row("transcribed in this run", clock(status["transcribed_s"]))
    table.add_row("speed", f"{status['speed']:.1f} x real time")
    occupancy = status["occupancy" if status["state"] in ALIVE else "mean_occupancy"]
    if occupancy is not None:
        table.add_row("slot occupancy", f"{occupancy:.0%}")
    if status["left_s"] is not None:
        table.add_row("time left", clock(status["left_s"]))
    if status["state"] != "finished":
        table.add_row("last heartbeat", f"{status['silent_s']} s ago")
    if status.get("waits_for"):
        table.add_row("waits for", status["waits_for"])
    if status["detail"]:
        table.add_row("detail", status["detail"])
    return table


JOB = Job(name="status", config=StatusConfig, run=show_status, positional=("run",))
