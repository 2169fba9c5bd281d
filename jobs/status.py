"""`nightscribe status OUTPUT`: how far a run is, from anywhere that can read its output."""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING
from rich.table import Table

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import clock, console
from nightscribe.reading.pace import STATUS_KEY, read_status
from nightscribe.storage.opening import S3Config, open_store

SILENT_AFTER_S = 120.0
NOT_FINISHED = 1
ALIVE = ("running", "draining")


@dataclass(kw_only=True, slots=True)
class StatusConfig:
    """Tell how far a run is; the exit code is 0 once it is finished."""

    run: str = field(default=MISSING, metadata={"help": "the output of a run: a folder or s3://"})
    format: str = field(default="table", metadata={"help": "how", "choices": ("table", "json")})
    s3: S3Config = field(default_factory=S3Config, metadata={"help": "how to reach object stores"})


def tell_status(config: StatusConfig) -> int:
    status = status_now(config.run, config.s3)
    if config.format == "json":
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
    else:
        console().print(_table(status))
    return 0 if status["state"] == "finished" else NOT_FINISHED


def status_now(run: str, s3: S3Config) -> dict[str, Any]:
    """The heartbeat; a run that is silent for long is told to be `silent`."""
    store = open_store(run, s3)
    status = dict(read_status(store))
    if not status:
        raise ValueError(f"{run}: no run has written its heartbeat here")
    # By the clock of the store alone: this machine's and the run's may be wrong.
    status["silent_s"] = max(round(store.age_s(STATUS_KEY)), 0)
    if status["state"] in ALIVE and status["silent_s"] > SILENT_AFTER_S:
        status["state"] = "silent"
        status["detail"] = "the driver is gone or cut off; the same command goes on"
    return status


def _table(status: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, title=f"run {status['run_id']} {status['state']}")
    table.add_row("recordings", f"{status['num_done']:,} of {status['num_recordings']:,}")
    table.add_row("failed", f"{status['num_failures']:,}")
    table.add_row("heard, this time", clock(status["heard_s"]))
    table.add_row("speed", f"{status['speed']:.1f} x real time")
    if status["occupancy"] is not None:
        table.add_row("slots", f"{status['occupancy']:.0%} full")
    if status["left_s"] is not None:
        table.add_row("left", clock(status["left_s"]))
    table.add_row("last sign of life", f"{status['silent_s']} s ago")
    if status["detail"]:
        table.add_row("detail", status["detail"])
    return table


JOB = Job(name="status", config=StatusConfig, run=tell_status, positional=("run",))
