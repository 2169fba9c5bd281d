"""The errors of this package: one base, and whose fault each of them is.

    NightscribeError
    |- ConfigError (ValueError)          user         jobs.shell.config
    |- CheckpointError (ValueError)      user         model.checkpoints
    |- ScriptError                       user         model.tts.script
    |- ConditionError                    user         model.tts.conditioning
    |- NotSpokenError                    user         speech.requests
    |- AlignmentError (ValueError)       user         training.targets
    |- UnreadableError                   user         survey.archive
    |- AnotherRunError                   user         storage.generations
    |- LeaseHeldError                    user         storage.lease
    |- JobRefusedError                   user         cluster.ray_jobs
    |- AccessError                       user         serving.access
    |- SessionError                      user         serving.websockets
    |- FileError (ValueError)            user         serving.files
    |- InvalidMessageError (ValueError)  user         serving.kyutai_messages
    |- RequestError (ValueError)         user         serving.transcriptions
    |- OpusError (ValueError)            user         serving.opus
    |- MissingExtraError                 environment  jobs.shell.command
    |- FfmpegError (ValueError)          environment  audio.ffmpeg
    |- StorageError                      environment  storage.errors
    |- DamagedError                      environment  storage.damage
    |- ReplacedError                     environment  storage.result_tables
    |- LeaseLostError                    environment  storage.lease
    |- ClusterLacksError                 environment  cluster.resources
    |- ClusterUnreachableError           environment  cluster.ray_session
    |- ServeError                        environment  cluster.serving.application
    |- StalledError                      environment  runs.watchdog
    |- StoppedError                      environment  cluster.read_tasks
    |- RunBrokenError                    environment  runs.attempt
    |- SpeechEngineError                 environment  speech.engine
    |- EngineError                       environment  serving.engine_client
    |- NoFreeSlotError                   environment  serving.speaking
    |- BusyError                         environment  serving.files
    `- LiveError                         environment  serving.client

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
