"""What is asked of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nightscribe.cluster.config import ClusterConfig, IntervalsConfig
from nightscribe.cluster.dataset import Stages
from nightscribe.records import Transcript
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.run import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything one attempt at a run needs to know."""

    plan: Path  # a file written by `write_plan`
    settings: Settings
    stages: Stages
    examine: Callable[[Transcript], Transcript]
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    intervals: IntervalsConfig = field(default_factory=IntervalsConfig)
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    retry: str = "passing"  # which failures of earlier attempts are tried again
    config_text: str = ""  # stored with the run, for people; without secrets
