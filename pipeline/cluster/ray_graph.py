"""The graph that Ray Data runs: numbers of read tasks in, receipts of committed parts out.

task numbers -> [CPU] read: rows of the plan to packets of shards with audio, or failures
  -> [GPU, or CPU where there is none] a fixed pool of actors, which commit -> receipts
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from nightscribe.cluster.attempt_registry import RegistryHandle
from nightscribe.cluster.packet_plan import PacketPlan
from nightscribe.cluster.read_tasks import ReadTask, TaskList, read_packets
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.transcribing_actor import CommitOptions, TranscribingActor
from nightscribe.runs.config import ClusterConfig
from nightscribe.runs.shards import Stages

ACTOR_INIT_DEATHS = 3
READER_MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Everything that the graph is made of."""

    tasks: TaskList
    stages: Stages
    registry: RegistryHandle
    pool: Pool
    config: ClusterConfig
    packets: PacketPlan
    commit_s: float
    revision: int  # of the settings of the run


def receipts(graph: Graph) -> Iterator[dict[str, Any]]:
    """Run the graph; a row about each packet as soon as all of it is committed."""
    _set_up_context()
    # Kept until the end: workers fetch it whenever one starts.
    tasks = ray.put(graph.tasks)
    dataset = _dataset(graph, tasks)
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from cast(pa.Table, batch).to_pylist()


def _dataset(graph: Graph, tasks: ray.ObjectRef) -> ray.data.Dataset:
    num_tasks = graph.tasks.num_tasks
    task = ReadTask(
        tasks=tasks,
        read=graph.stages.read,
        registry=graph.registry,
        max_worker_deaths=graph.config.max_worker_deaths,
    )
    # Only numbers: a plan of a million recordings is neither in the driver nor in its graph. Ray
    # makes these blocks here; of blocks that exist it would ask workers for their size, one by one.
    numbers = [{"task": number} for number in range(num_tasks)]
    cut = ray.data.from_items(numbers, override_num_blocks=num_tasks).map_batches(
        read_packets,  # type: ignore[arg-type] # Ray has no types for functions with fn_args
        batch_size=None,
        batch_format="pyarrow",
        fn_args=(task,),
        num_cpus=graph.config.cpus_per_audio_worker,
        # Ray would run stages with equal resources in one process.
        memory=READER_MEMORY_BYTES,
        compute=TaskPoolStrategy(size=graph.pool.num_audio_workers),
    )
    return _transcribed(cut, graph)


def _transcribed(cut: ray.data.Dataset, graph: Graph) -> ray.data.Dataset:
    """A fixed pool: one that grows and shrinks would load models instead of transcribing."""
    stages, pool, packets = graph.stages, graph.pool, graph.packets
    commits = CommitOptions(
        output=stages.output,
        s3=stages.s3,
        interval_s=graph.commit_s,
        revision=graph.revision,
    )
    return cut.map_batches(
        TranscribingActor,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(
            stages.make_transcriber,
            stages.shards,
            graph.registry,
            commits,
            packets.shards_in_flight,
            graph.config.max_worker_deaths,
        ),
        num_cpus=pool.cpus_per_actor,
        num_gpus=pool.gpus_per_actor,
        compute=ActorPoolStrategy(
            size=pool.num_actors,
            max_concurrent_calls_per_actor=packets.num_calls,
            max_tasks_in_flight_per_actor=packets.num_calls,
        ),
    )


def _set_up_context() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # Every row is a block of its own: a packet, or the receipts of one.
    context.target_max_block_size = 1
    # They warn of workers that take more memory than was asked for.
    context.issue_detectors_config.detectors = []
    # A thread for each packet that measures the memory of its worker every second.
    context.memory_usage_poll_interval_s = None
    # The watchdog knows more about a run that has stalled.
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = ACTOR_INIT_DEATHS
    # Ray would drop the rows of a failed block; here whatever can fail is a row.
    context.max_errored_blocks = 0
