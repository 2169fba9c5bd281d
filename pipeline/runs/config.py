"""The configuration of a run on a cluster: workers, timeouts and intervals."""

from dataclasses import dataclass

from nightscribe.options import check_options, option

# The number of slots that fit a GPU is unknown before the model is loaded.
UNKNOWN_SLOTS = 256
ACTORS_PER_EXECUTOR = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Workers and timeouts."""

    in_process: str = option(
        "auto",
        "auto: what is left of a small archive is transcribed in this process, without Ray; never",
        choices=("auto", "never"),
        common=True,
    )
    num_actors: int | None = option(
        None,
        "transcribing actors; null: as many as fit the GPUs, or one without GPUs",
        minimum=1,
        common=True,
    )
    min_actors: int | None = option(
        None,
        "actors that must fit before the run begins; the others start when machines join; "
        "null: all of them",
        minimum=1,
    )
    gpus_per_actor: float | None = option(
        None,
        "GPUs per actor; a fraction shares a GPU; null: 1, or 0 without GPUs",
        minimum=0,
        common=True,
    )
    cpus_per_actor: float | None = option(
        None,
        "CPUs per actor, and its number of threads; null: 2 beside a GPU of a machine with 8 CPUs "
        "or more per GPU, else 1; without GPUs all CPUs that the audio workers leave",
        minimum=0,
    )
    num_audio_workers: int | None = option(
        None,
        "recordings decoded and cut at once; null: as many as CPUs allow",
        minimum=1,
        common=True,
    )
    cpus_per_audio_worker: float = option(1.0, "CPUs per audio worker", above=0)
    shards_in_flight: int | None = option(
        None, "shards under way in an actor at once; null: six times its slots", minimum=1
    )
    drivers: int | None = option(
        None,
        "executors that divide a run by the ids of recordings, each with a graph of its own; "
        "null: one for every 8 actors",
        minimum=1,
    )
    max_worker_deaths: int = option(
        3,
        "a recording or shard fails once this many workers have died while working on it",
        minimum=1,
    )
    wait_s: float = option(0.0, "how long to wait for machines that have not joined yet", minimum=0)
    stall_timeout_s: float = option(
        1800.0,
        "when nothing was finished for this long, write what each worker was doing and end the run",
        above=0,
    )
    block_mib: float = option(
        128.0, "largest block of samples sent from audio workers to actors", above=0
    )
    object_store_gib: float | None = option(
        None, "shared memory of a Ray that is started on this machine; null: Ray's default"
    )

    def __post_init__(self) -> None:
        check_options(self, "cluster")


def num_executors(config: ClusterConfig, num_actors: int) -> int:
    """One executor keeps some dozens of transcribers busy; none is without a transcriber."""
    wanted = config.drivers or -(-num_actors // ACTORS_PER_EXECUTOR)
    return max(min(wanted, num_actors), 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RayConfig:
    """Which Ray cluster to use."""

    address: str | None = option(
        None,
        "auto, ray://HOST:PORT or HOST:PORT; null: start Ray on this machine",
        common=True,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalsConfig:
    """How often results and status are written."""

    commit_s: float = option(5.0, "seconds between two commits of a transcriber", above=0)
    publish_s: float = option(30.0, "seconds between two files of transcripts", above=0)
    heartbeat_s: float = option(10.0, "seconds between two updates of status.json", above=0)
    retire_s: float = option(
        30.0, "seconds that replaced table files stay for readers that have listed them", minimum=0
    )

    def __post_init__(self) -> None:
        check_options(self, "intervals")
