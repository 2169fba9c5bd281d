"""`nightscribe submit ...`: the words of `transcribe`, run as a job on a cluster that is there."""

import asyncio
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import MISSING

from nightscribe.cluster.config import RayConfig
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.transcribe import TranscribeConfig

if TYPE_CHECKING:
    from nightscribe.cluster.ray_jobs import Jobs

PACKAGE = Path(__file__).parent.parent  # code, configuration and the small model
OWN_KEYS = ("submit", "ray.address")


@dataclass(kw_only=True, slots=True)
class JobConfig:
    """How the job is handed over."""

    wait: bool = field(
        default=True, metadata={"help": "follow the job's log and end with its exit code"}
    )
    job_id: str | None = field(default=None, metadata={"help": "a name for it; null: Ray's choice"})
    python: str = field(default="python", metadata={"help": "the interpreter on the cluster"})
    upload: bool = field(
        default=True,
        metadata={"help": "send this version of the program; false uses what is installed there"},
    )
    pip: list[str] = field(
        default_factory=list, metadata={"help": "packages the cluster installs for this job"}
    )
    env: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "environment of the job, readable by all who see the dashboard"},
    )


@dataclass(kw_only=True, slots=True)
class SubmitConfig(TranscribeConfig):
    """Hand a transcription to a cluster; every key of `transcribe` may be given."""

    submit: JobConfig = field(
        default_factory=JobConfig, metadata={"help": "how the job is handed over"}
    )


@dataclass(kw_only=True, slots=True)
class StopConfig:
    """Stop a job that was submitted."""

    stop: str = field(default=MISSING, metadata={"help": "the name of the job"})
    ray: RayConfig = field(default_factory=RayConfig, metadata={"help": "which cluster"})


def submit_job(config: SubmitConfig) -> int:
    from nightscribe.cluster.ray_jobs import (
        Jobs,
        RayJob,
    )  # ray, which understanding words can do without

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
    sys.stderr.write(f"submitted as {job_id}; stop it with nightscribe submit stop={job_id}\n")
    return _follow(jobs, job_id) if config.submit.wait else 0


def stop_job(config: StopConfig) -> int:
    from nightscribe.cluster.ray_jobs import Jobs

    stopped = Jobs(_dashboard(config.ray)).stop(config.stop)
    sys.stderr.write(f"{config.stop} {'is stopping' if stopped else 'had ended already'}\n")
    return 0


def command(python: str, words: list[str]) -> str:
    """One line for the shell of the cluster; quiet, because nobody looks at a moving bar there."""
    return shlex.join([python, "-m", "nightscribe", "transcribe", "quiet=true", *words])


@contextmanager
def _upload(is_wanted: bool) -> Iterator[Path | None]:
    """A folder that holds this version of the package and nothing else, for Ray to upload."""
    if not is_wanted:
        yield None
        return
    with TemporaryDirectory(prefix="nightscribe-submit-") as folder:
        # A checkout links to its folders, an installed package may lie in a read-only place:
        # a copy of the files serves both.
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(PACKAGE, Path(folder) / "nightscribe", ignore=ignored)
        yield Path(folder)


def _is_own(word: str) -> bool:
    path = word.partition("=")[0]
    return path in OWN_KEYS or path.startswith("submit.")


def _follow(jobs: "Jobs", job_id: str) -> int:
    try:
        asyncio.run(jobs.follow(job_id, sys.stdout.write))
        return jobs.exit_code(job_id)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{job_id} goes on; stop it with nightscribe submit stop={job_id}\n")
        return 0


def _dashboard(ray: RayConfig) -> str:
    if ray.address is None:
        raise ValueError(
            "ray.address must be given: the cluster's dashboard, such as http://HOST:8265"
        )
    return ray.address


STOP = Job(name="stop", config=StopConfig, run=stop_job)
JOB = Job(name="submit", config=SubmitConfig, run=submit_job, instead={"stop": STOP})
