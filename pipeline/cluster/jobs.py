"""Jobs on a cluster that is there: submitted, followed, stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

POLL_S = 1.0
NO_EXIT_CODE = 1


class JobRefusedError(Exception):
    """The cluster did not take the job, or does not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """A command and what it needs around it."""

    command: str
    folder: Path | None  # None: the program is installed there
    left_behind: list[str] = field(default_factory=list)
    pip: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    job_id: str | None = None

    @property
    def runtime_env(self) -> dict[str, Any]:
        made: dict[str, Any] = {"env_vars": {**self.env}}
        if self.folder is not None:
            made |= {"working_dir": str(self.folder), "excludes": self.left_behind}
        return made | ({"pip": self.pip} if self.pip else {})


class Jobs:
    """The jobs of the cluster with this dashboard."""

    def __init__(self, dashboard: str) -> None:
        self._dashboard = dashboard
        try:
            self._client = JobSubmissionClient(dashboard)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise JobRefusedError(self._sentence("does not answer", error)) from error

    def submit(self, job: RayJob) -> str:
        try:
            return self._client.submit_job(
                entrypoint=job.command, runtime_env=job.runtime_env, submission_id=job.job_id
            )
        except (RuntimeError, ValueError) as error:
            raise JobRefusedError(self._sentence("refused the job", error)) from error

    async def follow(self, job_id: str, write: Callable[[str], Any]) -> None:
        """Hand on the log as it grows, to its end."""
        async for text in self._client.tail_job_logs(job_id):
            write(text)

    def exit_code(self, job_id: str) -> int:
        """Wait for the job's end; 0 only if it succeeded."""
        while not (info := self._client.get_job_info(job_id)).status.is_terminal():
            time.sleep(POLL_S)
        if info.status == JobStatus.SUCCEEDED:
            return 0
        return info.driver_exit_code or NO_EXIT_CODE

    def stop(self, job_id: str) -> bool:
        """Ask the job to end; whether it was still running."""
        try:
            return self._client.stop_job(job_id)
        except RuntimeError as error:
            raise JobRefusedError(self._sentence(f"knows no job {job_id}", error)) from error

    def _sentence(self, what: str, error: BaseException) -> str:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"the cluster at {self._dashboard} {what}: {lines[-1] if lines else error}"
