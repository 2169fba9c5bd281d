"""Ray jobs on an existing cluster: submit, follow and stop."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from tenacity import (
    retry,
    retry_if_exception_message,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
)

from nightscribe.cluster.ray_session import TOKEN_HINT, use_token
from nightscribe.errors import NightscribeError

POLL_S = 1.0
# A busy head or a broken connection does not end the following of a job.
RETRY_S = 600.0
START_S = 120.0
CONNECT_ATTEMPTS = 4
PAUSE_S = 5.0
CONNECTION_ERRORS = (RuntimeError, OSError, aiohttp.ClientError)
NO_EXIT_CODE = 1

log = logging.getLogger(__name__)


class JobRefusedError(NightscribeError):
    """The cluster refused the job, or does not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """A command and the environment that it needs."""

    command: str
    folder: Path | None  # None: the program is installed on the cluster
    pip: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    job_id: str | None = None

    @property
    def runtime_env(self) -> dict[str, Any]:
        environment: dict[str, Any] = {"env_vars": {**self.env}}
        if self.folder is not None:
            environment["working_dir"] = str(self.folder)
        return environment | ({"pip": self.pip} if self.pip else {})


class Jobs:
    """The jobs of the cluster that has this dashboard."""

    def __init__(self, dashboard: str) -> None:
        self._dashboard = dashboard
        # Ray would log a line for every file that is not uploaded.
        logging.getLogger("ray").setLevel(logging.ERROR)
        use_token()
        try:
            self._client = _client_of(dashboard)
        except AuthenticationError as error:
            raise JobRefusedError(
                f"the cluster at {dashboard} refused the credentials; {TOKEN_HINT}"
            ) from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise JobRefusedError(self._sentence("does not answer", error)) from error

    def submit(self, job: RayJob) -> str:
        try:
            return self._submitted(job)
        except (RuntimeError, ValueError) as error:
            raise JobRefusedError(self._sentence("refused the job", error)) from error

    # A head that has just started has no agent yet.
    @retry(
        retry=retry_if_exception_message(match=".*try again later"),
        stop=stop_after_delay(START_S),
        wait=wait_fixed(POLL_S),
        reraise=True,
    )
    def _submitted(self, job: RayJob) -> str:
        return self._client.submit_job(
            entrypoint=job.command, runtime_env=job.runtime_env, submission_id=job.job_id
        )

    async def follow(self, job_id: str, write: Callable[[str], Any]) -> None:
        """Write the log as it grows, to its end or until the connection is lost."""
        try:
            async for text in self._client.tail_job_logs(job_id):
                write(text)
        except CONNECTION_ERRORS as error:
            log.warning("the log of %s ends here, but the job goes on: %s", job_id, error)

    def exit_code(self, job_id: str) -> int:
        """Wait for the job's end; 0 only if it succeeded."""
        while not (info := self._info(job_id)).status.is_terminal():
            time.sleep(POLL_S)
        if info.status == JobStatus.SUCCEEDED:
            return 0
        return info.driver_exit_code or NO_EXIT_CODE

    def stop(self, job_id: str) -> bool:
        """Ask the job to end; whether it was still running."""
        try:
            return self._client.stop_job(job_id)
        except RuntimeError as error:
            raise JobRefusedError(self._sentence(f"does not know job {job_id}", error)) from error

    def _info(self, job_id: str) -> JobDetails:
        try:
            return _with_retries(lambda: self._client.get_job_info(job_id))
        except CONNECTION_ERRORS as error:
            raise JobRefusedError(
                self._sentence(f"has no information on {job_id}", error)
            ) from error

    def _sentence(self, what: str, error: BaseException) -> str:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"the cluster at {self._dashboard} {what}: {lines[-1] if lines else error}"


@retry(
    retry=retry_if_exception_type(ConnectionError),
    stop=stop_after_attempt(CONNECT_ATTEMPTS),
    wait=wait_fixed(POLL_S),
    reraise=True,
)
def _client_of(dashboard: str) -> JobSubmissionClient:
    return JobSubmissionClient(dashboard)


def _with_retries(request: Callable[[], JobDetails]) -> JobDetails:
    retried = retry(
        retry=retry_if_exception_type(CONNECTION_ERRORS),
        stop=stop_after_delay(RETRY_S),
        wait=wait_fixed(PAUSE_S),
        reraise=True,
    )
    return retried(request)()
