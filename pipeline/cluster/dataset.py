"""The graph that Ray Data runs: what is left of the plan in, receipts of committed parts out.

remaining recordings -> [CPU] read: shards with audio, or failures -> blocks of four
  -> [GPU, or CPU where there is none] a fixed pool of actors -> [CPU] commit -> receipts
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from nightscribe.cluster.attempt_registry import RegistryHandle
from nightscribe.cluster.audio_task import Reader, read_remaining
from nightscribe.cluster.config import ROWS_PER_BLOCK, ClusterConfig, calls_per_actor
from nightscribe.cluster.progress import Stopwatch
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.rows import receipt_table
from nightscribe.cluster.watchdog import dump_stacks_on_signal
from nightscribe.cluster.worker import ClipTranscriber, ShardOptions, TranscribingActor
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit
from nightscribe.storage.rows import outcome_of

# More blocks than this, beyond those that an actor works on, would only hold memory.
PREFETCH = 1.2
COMMIT_CPUS = 0.25
COMMIT_STAGE = "commit"
ACTOR_INIT_DEATHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the workers run; the functions are pickled and sent to them."""

    read: Reader
    make_transcriber: Callable[[], ClipTranscriber]
    output: str
    s3: S3Config
    shards: ShardOptions = field(default_factory=ShardOptions)


def receipts(
    tasks: Iterable[pa.Table],
    stages: Stages,
    registry: RegistryHandle,
    pool: Pool,
    config: ClusterConfig,
) -> Iterator[list[dict[str, Any]]]:
    """Run the graph over the read tasks; rows about outcomes as soon as they are committed."""
    _set_up_context(config)
    dataset = _graph(tasks, stages, registry, pool, config)
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield cast(pa.Table, batch).to_pylist()


def _graph(
    tasks: Iterable[pa.Table],
    stages: Stages,
    registry: RegistryHandle,
    pool: Pool,
    config: ClusterConfig,
) -> ray.data.Dataset:
    # One at a time: a plan of a million recordings is in the object store, not in the driver.
    blocks = [ray.put(table) for table in tasks]
    recordings = ray.data.from_arrow_refs(blocks)  # type: ignore[arg-type] # two names of one type
    cut = recordings.map_batches(
        read_remaining,  # type: ignore[arg-type] # Ray has no types for functions with fn_args
        batch_size=None,
        batch_format="pyarrow",
        fn_args=(stages.read, registry, config.max_worker_deaths),
        num_cpus=config.cpus_per_audio_worker,
        compute=TaskPoolStrategy(size=pool.num_audio_workers),
    ).repartition(target_num_rows_per_block=ROWS_PER_BLOCK)
    return _transcribed(cut, stages, registry, pool, config).map_batches(
        write_part,  # type: ignore[arg-type]
        batch_size=None,
        batch_format="pyarrow",
        fn_args=(stages.output, stages.s3, registry),
        num_cpus=COMMIT_CPUS,
    )


def _transcribed(
    cut: ray.data.Dataset,
    stages: Stages,
    registry: RegistryHandle,
    pool: Pool,
    config: ClusterConfig,
) -> ray.data.Dataset:
    """A fixed pool: one that grows and shrinks would load models instead of transcribing."""
    calls = calls_per_actor(config, pool.num_slots)
    rows_in_flight = calls * ROWS_PER_BLOCK
    return cut.map_batches(
        TranscribingActor,
        batch_size=ROWS_PER_BLOCK,
        batch_format="pyarrow",
        fn_constructor_args=(
            stages.make_transcriber,
            stages.shards,
            registry,
            rows_in_flight,
            config.max_worker_deaths,
        ),
        num_cpus=pool.cpus_per_actor,
        num_gpus=pool.gpus_per_actor,
        compute=ActorPoolStrategy(
            size=pool.num_actors,
            max_concurrent_calls_per_actor=calls,
            max_tasks_in_flight_per_actor=round(PREFETCH * calls) + 1,
        ),
    )


def write_part(table: pa.Table, output: str, s3: S3Config, registry: RegistryHandle) -> pa.Table:
    """On a CPU worker: commit the outcomes of an actor."""
    dump_stacks_on_signal()
    outcomes = [outcome_of(row) for row in table.to_pylist()]
    if not outcomes:
        return receipt_table([], [])
    watch = Stopwatch()
    with watch:
        committed = receipt_table(commit(open_store(output, s3), outcomes), outcomes)
    registry.add_stage_time.remote(COMMIT_STAGE, watch.take())
    return committed


def _set_up_context(config: ClusterConfig) -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = int(config.block_mib * 2**20)
    # The watchdog knows more about a run that has stalled.
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = ACTOR_INIT_DEATHS
    # Ray would drop the rows of a failed block; here whatever can fail is a row.
    context.max_errored_blocks = 0
