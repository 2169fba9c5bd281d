"""A Ray to work with: one that is there, or one started here for as long as the run takes."""

import logging
import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

import ray
from ray.job_config import JobConfig
from tenacity import retry, retry_if_exception_message, stop_after_attempt

from nightscribe.cluster.config import ClusterConfig, RayConfig
from nightscribe.errors import NightscribeError

# Decoder, transcriber and writer run side by side; Ray counts CPUs, the kernel shares them.
MIN_CPUS = 4
START_ATTEMPTS = 3
# Ray puts the folder's name into names of sockets, which must be short.
TEMP_FOLDER = "nightscribe-ray"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
OWN_SETTINGS = {
    # Ray ends workers that were idle for a second and starts others for the next tasks, which
    # takes longer than most tasks do.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # What it remembers of tasks that ended, some kilobytes each; nobody asks for so many.
    "RAY_task_events_max_num_task_in_gcs": "5000",
}


class ClusterUnreachableError(NightscribeError):
    """There is no Ray at that address, or none could be started."""

    fault = "environment"


@contextmanager
def connected(ray_config: RayConfig, config: ClusterConfig) -> Iterator[None]:
    """Join the cluster at the address, or the one this job runs in, or start one."""
    _calm_logs()
    # A cluster that sets this is the one that runs this job.
    address = ray_config.address or os.environ.get("RAY_ADDRESS")
    try:
        _join(address) if address else _start(config)
    except Exception as error:  # Ray raises plain ones, too
        where = f"at {address}" if address else "on this machine"
        raise ClusterUnreachableError(f"no Ray {where}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


def session_folder() -> Path | None:
    """Where Ray keeps what its processes here write; None if that is not on this machine."""
    node = ray._private.worker._global_node
    folder = None if node is None else Path(node.get_session_dir_path())
    return folder if folder is not None and folder.is_dir() else None


def _join(address: str) -> None:
    ray.init(address=address, log_to_driver=False, configure_logging=False)


# A busy machine may need more than the half minute that Ray waits for itself.
@retry(
    retry=retry_if_exception_message(match=".*timed out during startup"),
    stop=stop_after_attempt(START_ATTEMPTS),
    before_sleep=lambda _: ray.shutdown(),
    reraise=True,
)
def _start(config: ClusterConfig) -> None:
    gib = config.object_store_gib
    for name, value in OWN_SETTINGS.items():
        os.environ.setdefault(name, value)
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


def _job_config() -> JobConfig:
    """Workers find this package, but no module of the current folder: it might hide a library's.

    Ray 2.60 puts the current folder first on the workers' path, except for its "client" jobs.
    """
    place = str(Path(__file__).absolute().parents[2])
    is_installed = place in sysconfig.get_paths().values()
    return JobConfig(_client_job=True, _py_driver_sys_path=[] if is_installed else [place])


def cpus_here(quota: Path = CPU_QUOTA) -> int:
    """CPUs that this process may use: a container has fewer than its machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        most, period = quota.read_text().split()
    except (OSError, ValueError):
        return allowed or 1
    limit = allowed or 1 if most == "max" else int(most) // int(period)
    return max(min(allowed or 1, limit), 1)


def _calm_logs() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of what we asked for: no bars of its own.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
