"""What is asked of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cluster.config import ClusterConfig
from pipeline.cluster.dataset import Stages
from pipeline.records import Transcript
from pipeline.storage.lease import LeaseConfig
from pipeline.storage.run import Settings


@dataclass(kw_only=True, slots=True)
class PaceConfig:
    """How often a run shows what it has."""

    publish_s: float = field(
        default=30.0, metadata={"help": "seconds between two files of transcripts"}
    )
    heartbeat_s: float = field(
        default=10.0, metadata={"help": "seconds between two writes of status.json"}
    )

    def __post_init__(self) -> None:
        for name in ("publish_s", "heartbeat_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"pace.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything one attempt at a run needs to know."""

    plan: Path  # a file written by `write_plan`
    settings: Settings
    stages: Stages
    examine: Callable[[Transcript], Transcript]
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    pace: PaceConfig = field(default_factory=PaceConfig)
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    retry: str = "passing"  # which failures of earlier attempts are tried again
    config_text: str = ""  # stored with the run, for people; without secrets
