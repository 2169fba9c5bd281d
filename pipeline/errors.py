"""The errors of this package: one base, and whose fault each of them is.

    NightscribeError
    |- ConfigError (ValueError)      user         jobs.shell.config: a wrong command line
    |- CheckpointError (ValueError)  user         model.checkpoints: no usable checkpoint
    |- AlignmentError (ValueError)   user         training.alignment: text and audio do not fit
    |- UnreadableError               user         survey.archive: a file without a usable header
    |- AnotherRunError               user         storage.run: the output belongs to another run
    |- LeaseHeldError                user         storage.lease: another process writes there
    |- JobRefusedError               user         cluster.ray_jobs: the cluster refused the job
    |- MissingExtraError             environment  jobs.shell.extras: an optional package is missing
    |- FfmpegError (ValueError)      environment  audio.ffmpeg: no usable ffmpeg
    |- StorageError                  environment  storage.errors: a disk or an object store failed
    |- LeaseLostError                environment  storage.lease: the lease could not be renewed
    |- ClusterLacksError             environment  cluster.resources: the cluster is too small
    |- ClusterUnreachableError       environment  cluster.ray_session: no Ray at that address
    |- StalledError                  environment  cluster.watchdog: nothing finished for too long
    `- RunBrokenError                environment  cluster.driver: the cluster could not go on

A plain ValueError is a value that the user can change, too, and an OSError is a matter of the
environment: both carry a sentence. Anything else is a bug and keeps its traceback.
"""

from typing import ClassVar, Literal

Fault = Literal["user", "environment", "bug"]


class NightscribeError(Exception):
    """The base of all errors that this package defines."""

    fault: ClassVar[Fault] = "user"


def fault_of(error: BaseException) -> Fault:
    """Whose fault an error is, ours or not."""
    if isinstance(error, NightscribeError):
        return error.fault
    if isinstance(error, ValueError):
        return "user"
    return "environment" if isinstance(error, OSError) else "bug"
