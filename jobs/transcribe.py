"""`nightscribe transcribe input=URI output=URI model=NAME`: an archive to transcripts, on Ray."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from nightscribe.audio.cut import ShardConfig
from nightscribe.cluster.audio_reader import SourceConfig
from nightscribe.cluster.config import ClusterConfig, PaceConfig, RayConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.command import run_job
from nightscribe.jobs.config import Job
from nightscribe.jobs.logs import LogConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.planning import PlanningConfig
from nightscribe.storage.failure_retry import RETRIES
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.locations import S3Config


@dataclass(kw_only=True, slots=True)
class FailuresConfig:
    """What counts as a success."""

    max: int | None = field(
        default=None,
        metadata={"help": "more failed recordings end with an error; null: any number is fine"},
    )
    retry: str = field(
        default="passing",
        metadata={
            "help": "failures of earlier attempts to try again: those whose cause may have passed "
            "(store, engine, a killed process), all of them, or none",
            "choices": RETRIES,
        },
    )


@dataclass(kw_only=True, slots=True)
class TranscribeConfig:
    """Transcribe an archive. The same command goes on where it was stopped, whatever stopped it."""

    input: str = field(
        default=MISSING, metadata={"help": "file, folder, pattern or manifest; local or s3://"}
    )
    output: str = field(default=MISSING, metadata={"help": "folder or s3:// for the tables"})
    tokens: bool = field(
        default=False, metadata={"help": "keep every token with the committed shards"}
    )
    quiet: bool = field(
        default=False, metadata={"help": "a line now and then instead of a moving display"}
    )
    log: LogConfig = field(default_factory=LogConfig, metadata={"help": "what is told on the way"})
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(checkpoint=MISSING), metadata={"help": "who listens"}
    )
    engine: EngineConfig = field(
        default_factory=EngineConfig, metadata={"help": "where the model runs"}
    )
    cluster: ClusterConfig = field(
        default_factory=ClusterConfig, metadata={"help": "workers and patience"}
    )
    source: SourceConfig = field(
        default_factory=SourceConfig, metadata={"help": "what is taken from each file"}
    )
    shard: ShardConfig = field(
        default_factory=ShardConfig, metadata={"help": "where recordings are cut"}
    )
    primers: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "speech that is heard first and left out again where the manifest names its "
            "language, as in primers.fr=hello.wav"
        },
    )
    ray: RayConfig = field(default_factory=RayConfig, metadata={"help": "which Ray to use"})
    s3: S3Config = field(default_factory=S3Config, metadata={"help": "how to reach object stores"})
    planning: PlanningConfig = field(
        default_factory=PlanningConfig, metadata={"help": "the order of the work"}
    )
    guards: GuardsConfig = field(
        default_factory=GuardsConfig, metadata={"help": "when a transcript is suspicious"}
    )
    failures: FailuresConfig = field(
        default_factory=FailuresConfig, metadata={"help": "what counts as a success"}
    )
    pace: PaceConfig = field(
        default_factory=PaceConfig, metadata={"help": "how often results are shown"}
    )
    lease: LeaseConfig = field(
        default_factory=LeaseConfig, metadata={"help": "one writer to an output"}
    )


def transcribe(config: TranscribeConfig) -> int:
    from nightscribe.jobs.transcribing import (
        transcribe_archive,
    )  # ray and torch, which words need not

    return transcribe_archive(config)


JOB = Job(name="transcribe", config=TranscribeConfig, run=transcribe)


def main() -> None:
    run_job(JOB)


if __name__ == "__main__":
    main()
