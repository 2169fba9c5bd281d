"""The configuration of a run on a cluster: workers, timeouts and intervals."""

from dataclasses import dataclass, field

ROWS_PER_BLOCK = 4
# The number of slots that fit a GPU is unknown before the model is loaded.
UNKNOWN_SLOTS = 256


@dataclass(kw_only=True, slots=True)
class ClusterConfig:
    """Actors, decoders and patience."""

    num_actors: int | None = field(
        default=None,
        metadata={"help": "transcribers; null: as many as fit the GPUs, or one without GPUs"},
    )
    gpus_per_actor: float | None = field(
        default=None,
        metadata={"help": "GPUs of each; a fraction shares one; null: 1, or 0 without GPUs"},
    )
    cpus_per_actor: float | None = field(
        default=None,
        metadata={
            "help": "CPUs of each transcriber, and its threads; null: 1 beside a GPU, without GPUs "
            "all that decoding leaves"
        },
    )
    num_decoders: int | None = field(
        default=None, metadata={"help": "recordings decoded at once; null: as many as CPUs allow"}
    )
    cpus_per_decoder: float = field(default=1.0, metadata={"help": "CPUs of each decoder"})
    rows_in_flight: int | None = field(
        default=None,
        metadata={"help": "shards handed to a transcriber at once; null: twice its slots"},
    )
    max_kills: int = field(
        default=3, metadata={"help": "a shard or file that killed this many workers has failed"}
    )
    wait_s: float = field(
        default=0.0, metadata={"help": "how long to wait for machines that are not there yet"}
    )
    no_progress_s: float = field(
        default=1800.0,
        metadata={"help": "when nothing moved for this long, tell where every worker is and end"},
    )
    block_mib: float = field(
        default=8.0, metadata={"help": "samples that travel from decoder to transcriber at once"}
    )
    object_store_gib: float | None = field(
        default=None,
        metadata={"help": "shared memory of a Ray that is started here; null: Ray decides"},
    )

    def __post_init__(self) -> None:
        for name in ("num_actors", "num_decoders", "rows_in_flight", "max_kills"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"cluster.{name} must be positive, got {value}")
        for name in ("cpus_per_actor", "gpus_per_actor", "wait_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"cluster.{name} must not be negative, got {value}")
        for name in ("cpus_per_decoder", "no_progress_s", "block_mib"):
            if not getattr(self, name) > 0:
                raise ValueError(f"cluster.{name} must be positive, got {getattr(self, name)}")


@dataclass(kw_only=True, slots=True)
class RayConfig:
    """Which Ray to use."""

    address: str | None = field(
        default=None,
        metadata={"help": "auto, ray://HOST:PORT or HOST:PORT; null: start one on this machine"},
    )


def calls_per_actor(config: ClusterConfig, num_slots: int | None) -> int:
    """Blocks that an actor works on at once: enough to fill its slots while some rows are slow."""
    rows = config.rows_in_flight or 2 * (num_slots or UNKNOWN_SLOTS)
    return max(-(-rows // ROWS_PER_BLOCK), 2)


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
