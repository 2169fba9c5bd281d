"""`nightscribe submit ...`: the words of `transcribe`, run as a job on a cluster that is there."""

import asyncio
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import MISSING

from jobs.command import run_job
from jobs.config import Job
from jobs.transcribe import TranscribeConfig
from pipeline.cluster.config import RayConfig

if TYPE_CHECKING:
    from pipeline.cluster.jobs import Jobs

PROJECT = Path(__file__).parent.parent
# Recordings, weights and what was built stay here; code, configuration and the small model go.
LEFT_BEHIND = [
    ".venv",
    ".*_cache",
    ".hypothesis",
    "tests",
    "samples",
    "ops",
    "build",
    "dist",
    "*.egg-info",
    "**/__pycache__",
    "**/*.parquet",
    "**/*.wav",
    "**/*.mp3",
    "**/*.flac",
    "**/*.opus",
    "/outputs",
]
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
    from pipeline.cluster.jobs import Jobs, RayJob  # ray, which understanding words can do without

    folder = _checkout() if config.submit.upload else None
    jobs = Jobs(_dashboard(config.ray))
    words = [word for word in sys.argv[1:] if not _is_own(word)]
    job_id = jobs.submit(
        RayJob(
            command=command(config.submit.python, words),
            folder=folder,
            left_behind=LEFT_BEHIND,
            pip=config.submit.pip,
            env=config.submit.env,
            job_id=config.submit.job_id,
        )
    )
    sys.stderr.write(f"submitted as {job_id}; stop it with nightscribe submit stop={job_id}\n")
    return _follow(jobs, job_id) if config.submit.wait else 0


def stop_job(config: StopConfig) -> int:
    from pipeline.cluster.jobs import Jobs

    stopped = Jobs(_dashboard(config.ray)).stop(config.stop)
    sys.stderr.write(f"{config.stop} {'is stopping' if stopped else 'had ended already'}\n")
    return 0


def command(python: str, words: list[str]) -> str:
    """One line for the shell of the cluster; quiet, because nobody looks at a moving bar there."""
    return shlex.join([python, "-m", "jobs.transcribe", "quiet=true", *words])


def _checkout() -> Path:
    """The folder to send; beside an installed package lie all others of its environment."""
    if (PROJECT / "pyproject.toml").is_file():
        return PROJECT
    raise ValueError(
        f"submit.upload=true sends a checkout of the program, and {PROJECT} is none: "
        "install this version on the cluster and give submit.upload=false"
    )


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


JOB = Job(name="submit", config=SubmitConfig, run=submit_job)
STOP = Job(name="stop", config=StopConfig, run=stop_job)


def main() -> None:
    run_job(STOP if any(word.startswith("stop=") for word in sys.argv[1:]) else JOB)


if __name__ == "__main__":
    main()
