"""`nightscribe submit ...`: run `transcribe` as a job on a Ray cluster."""

import asyncio
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import MISSING

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.transcribe import TranscribeConfig
from nightscribe.options import group, option
from nightscribe.runs.config import RayConfig

if TYPE_CHECKING:
    from nightscribe.cluster.ray_jobs import Jobs

PACKAGE = Path(__file__).parent.parent  # code, configuration and the small model
OWN_KEYS = ("submit", "ray.address")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobConfig:
    """How the job is submitted."""

    wait: bool = option(True, "follow the log of the job and exit with its exit code")
    job_id: str | None = option(None, "name of the job; null: Ray chooses one")
    python: str = option("python", "Python interpreter on the cluster")
    upload: bool = option(
        True, "upload this version of the package; false: use the one installed on the cluster"
    )
    pip: list[str] = option([], "packages that the cluster installs for this job")
    env: dict[str, str] = option(
        {}, "environment variables of the job; everyone with access to the dashboard can read them"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitConfig(TranscribeConfig):
    """Run transcribe as a job on a cluster; every key of transcribe may be given."""

    submit: JobConfig = group(JobConfig, "how the job is submitted")


@dataclass(frozen=True, kw_only=True, slots=True)
class StopConfig:
    """Stop a submitted job."""

    stop: str = option(MISSING, "name of the job")
    ray: RayConfig = group(RayConfig, "which Ray cluster")


def submit_job(config: SubmitConfig) -> int:
    from nightscribe.cluster.ray_jobs import Jobs, RayJob  # ray takes seconds to import

    _check_locations(config)
    jobs = Jobs(_dashboard(config.ray))
    words = [word for word in sys.argv[2:] if not _is_own(word)]
    with _upload(config.submit.upload) as folder:
        job_id = jobs.submit(
            RayJob(
                command=command(config.submit.python, words),
                folder=folder,
                pip=config.submit.pip,
                env=config.submit.env,
                job_id=config.submit.job_id,
            )
        )
    stop = f"stop it with nightscribe submit stop={job_id} ray.address={config.ray.address}"
    sys.stderr.write(f"submitted as {job_id}; {stop}\n")
    return _follow(jobs, job_id, stop) if config.submit.wait else 0


def stop_job(config: StopConfig) -> int:
    from nightscribe.cluster.ray_jobs import Jobs

    stopped = Jobs(_dashboard(config.ray)).stop(config.stop)
    sys.stderr.write(f"{config.stop} {'is stopping' if stopped else 'has already ended'}\n")
    return 0


def command(python: str, words: list[str]) -> str:
    """One line for the shell of the cluster; quiet, because its log shows no progress bar."""
    return shlex.join([python, "-m", "nightscribe", "transcribe", "quiet=true", *words])


@contextmanager
def _upload(is_wanted: bool) -> Iterator[Path | None]:
    """A folder with this version of the package and nothing else, for Ray to upload."""
    if not is_wanted:
        yield None
        return
    with TemporaryDirectory(prefix="nightscribe-submit-") as folder:
        # In a checkout the package is made of links, and an installed one may be read-only:
        # a copy of the files works for both.
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(PACKAGE, Path(folder) / "nightscribe", ignore=ignored)
        yield Path(folder)


def _is_own(word: str) -> bool:
    path = word.partition("=")[0]
    return path in OWN_KEYS or path.startswith("submit.")


def _follow(jobs: "Jobs", job_id: str, stop: str) -> int:
    try:
        asyncio.run(jobs.follow(job_id, sys.stdout.write))
        return jobs.exit_code(job_id)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{job_id} keeps running; {stop}\n")
        return 0


def _check_locations(config: SubmitConfig) -> None:
    """Refuse a path that the cluster would look for in a folder of its own."""
    for key in ("input", "output"):
        location = getattr(config, key)
        if "://" not in location and not location.startswith("/"):
            raise ValueError(
                f"{key}={location} would be looked for on the cluster, in a folder of the job; "
                "give s3://... or an absolute path that all machines share"
            )


def _dashboard(ray: RayConfig) -> str:
    if ray.address is None:
        raise ValueError(
            "ray.address must be given: the URL of the cluster's dashboard, such as http://HOST:8265"
        )
    return ray.address


STOP = Job(name="stop", config=StopConfig, run=stop_job)
JOB = Job(name="submit", config=SubmitConfig, run=submit_job, instead={"stop": STOP})
