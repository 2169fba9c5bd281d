"""Connects to a Ray cluster, or starts one on this machine for the time of a run.

All uses of Ray's private names and internal settings are here. Seen in Ray 2.59 and 2.60:
`ray._private.worker._global_node`, the argument `_temp_dir` of `ray.init`, the logger
`ray.data._internal.progress`, `ray._private.services.ConsolePopen`, `ray._raylet.Config`, and the
settings of the raylet in INTERNAL_SETTINGS.
"""

import logging
import os
import signal
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir

import ray
from ray._private import services
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.job_config import JobConfig
from tenacity import retry, retry_if_exception_message, stop_after_attempt

from nightscribe.errors import NightscribeError
from nightscribe.runs.config import ClusterConfig, RayConfig
from nightscribe.runs.process_end import abandon_threads

# Decoding, transcribing and committing run in parallel; Ray counts CPUs, the kernel shares them.
MIN_CPUS = 4
START_ATTEMPTS = 3
# Ray uses the name of the folder in the names of sockets, which must be short.
TEMP_FOLDER = "nightscribe-ray"
AUTH_MODE = "RAY_AUTH_MODE"
TOKEN_HINT = (
    "if the cluster demands a token, give its token by RAY_AUTH_TOKEN, or the file of it by "
    "RAY_AUTH_TOKEN_PATH"
)
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
INTERNAL_SETTINGS = {
    # By default Ray ends workers that are idle for a second and starts new ones for the next tasks,
    # which takes longer than most tasks.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # The records of ended tasks, some kilobytes each, of which far fewer are needed.
    "RAY_task_events_max_num_task_in_gcs": "5000",
}


class ClusterUnreachableError(NightscribeError):
    """There is no Ray at the address, or none could be started here."""

    fault = "environment"


@contextmanager
def connected(ray_config: RayConfig, config: ClusterConfig) -> Iterator[None]:
    """Join the cluster at the address, or the one this job runs in, or start one."""
    _quiet_logs()
    # Ray sets this in a job that it runs, to the address of its cluster.
    address = ray_config.address or os.environ.get("RAY_ADDRESS")
    try:
        with _own_sigterm():
            _join(address) if address else _start(config)
    except Exception as error:  # Ray raises many types
        where = f"at {address}" if address else "on this machine"
        hint = "" if not address or _has_token() else f"; {TOKEN_HINT}"
        raise ClusterUnreachableError(
            f"no Ray {where}: {' '.join(str(error).split())}{hint}"
        ) from error
    try:
        yield
    except BaseException:
        # Threads of Ray Data still run, and log tracebacks about a Ray that is shut down.
        silence_ray()
        if address:
            ray.shutdown()
        else:
            abandon_threads()
        raise
    silence_ray()
    ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray lets SIGTERM end the process that it starts in; here it drains a run."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def session_folder() -> Path | None:
    """The folder of the logs of Ray's processes; None if it is not on this machine."""
    node = ray._private.worker._global_node
    folder = None if node is None else Path(node.get_session_dir_path())
    return folder if folder is not None and folder.is_dir() else None


def own_ray_has_ended() -> bool:
    """Whether a process of the Ray that was started here is gone."""
    node = ray._private.worker._global_node
    return node is not None and node.head and bool(node.dead_processes())


def _join(address: str) -> None:
    use_token()
    ray.init(
        address=address,
        job_config=_job_config(),
        log_to_driver=False,
        configure_logging=False,
    )


def use_token() -> None:
    """Send the token of this user to the cluster, where there is one.

    A head that is started on a machine with a token demands it, and the first `ray.init` of any
    program leaves one there; clients send it only if RAY_AUTH_MODE says so.
    """
    if AUTH_MODE in os.environ or not _has_token():
        return
    os.environ[AUTH_MODE] = "token"
    Config.initialize("")  # Ray has read the variable when it was imported


def _has_token() -> bool:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token"
    return "RAY_AUTH_TOKEN" in os.environ or Path(path).is_file()


# A busy machine may need more than the half minute that Ray waits.
@retry(
    retry=retry_if_exception_message(match=".*timed out during startup"),
    stop=stop_after_attempt(START_ATTEMPTS),
    before_sleep=lambda _: ray.shutdown(),
    reraise=True,
)
def _start(config: ClusterConfig) -> None:
    gib = config.object_store_gib
    for name, value in INTERNAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    with _own_process_groups():
        ray.init(
            address="local",
            job_config=_job_config(),
            num_cpus=max(cpus_here(), MIN_CPUS),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=int(gib * 2**30) if gib else None,
            _temp_dir=os.path.join(gettempdir(), TEMP_FOLDER),
        )


@contextmanager
def _own_process_groups() -> Iterator[None]:
    """Processes that Ray starts are not in our group, so that a signal to it reaches us alone.

    `timeout`, a shell that ends and others send SIGTERM to the group: Ray would be gone before the
    recordings in progress are finished. Its processes still end with this one.
    """
    before = services.ConsolePopen
    services.ConsolePopen = partial(before, process_group=0)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = before  # type: ignore[misc]


def _job_config() -> JobConfig:
    """Workers find this package, but no module of the current folder: it might hide a library's.

    Ray 2.60 puts the current folder first on the workers' path, except for its "client" jobs.
    """
    place = str(Path(__file__).absolute().parents[2])
    is_installed = place in sysconfig.get_paths().values()
    return JobConfig(_client_job=True, _py_driver_sys_path=[] if is_installed else [place])


def cpus_here(quota: Path = CPU_QUOTA) -> int:
    """The CPUs that this process may use: a container has fewer than its machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        most, period = quota.read_text().split()
    except (OSError, ValueError):
        return allowed or 1
    limit = allowed or 1 if most == "max" else int(most) // int(period)
    return max(min(allowed or 1, limit), 1)


def _quiet_logs() -> None:
    import_module("ray.data")  # which sets the levels of its loggers, so it must come first
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    _set_log_levels(logging.WARNING)
    # Ray prints what it logs itself; the log of the run is the place for it.
    logging.getLogger("ray").handlers.clear()
    logging.getLogger("ray").propagate = True
    # It warns that its progress bars are disabled, which is intended.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


def silence_ray() -> None:
    """Log no more errors of Ray, before it is made to fail."""
    _set_log_levels(logging.CRITICAL)


def _set_log_levels(level: int) -> None:
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(level)
