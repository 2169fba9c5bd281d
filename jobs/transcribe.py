"""`nightscribe transcribe input=URI output=URI model=NAME`: transcribe an archive, on Ray.

Ray and torch take seconds to import: functions do it once the command line is known to be right.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import MISSING, OmegaConf

from nightscribe.audio.cut import ShardConfig
from nightscribe.cluster.audio_reader import SourceConfig
from nightscribe.cluster.config import ClusterConfig, IntervalsConfig, RayConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.inspection import add_inspection
from nightscribe.jobs import INTERRUPTED
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.display import Display
from nightscribe.jobs.shell.language_prompts import LanguagePrompts, digests, read_prompts
from nightscribe.jobs.shell.logs import Log, LogConfig, logged
from nightscribe.jobs.shell.terminal import stopped_by_signals
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.options import check_options, group, option
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.failure_retry import RETRIES
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.locations import open_store
from nightscribe.storage.run import Settings
from nightscribe.storage.s3 import S3Config
from nightscribe.storage.sources import describe_skipped, recordings

if TYPE_CHECKING:
    from nightscribe.cluster.dataset import Stages
    from nightscribe.cluster.driver import RunSpec
    from nightscribe.cluster.progress import Progress
    from nightscribe.model.checkpoints.open import Checkpoint

TOO_MANY_FAILURES = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailuresConfig:
    """What counts as a success."""

    max: int | None = option(
        None, "exit with code 1 if more recordings than this failed; null: never", common=True
    )
    retry: str = option(
        "passing",
        "which failures of earlier attempts to retry: passing (storage, engine, killed "
        "process), all or none",
        choices=RETRIES,
        common=True,
    )

    def __post_init__(self) -> None:
        check_options(self, "failures")


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscribeConfig:
    """Transcribe an archive. Run the same command again to resume after any interruption."""

    input: str = option(MISSING, "file, folder, glob pattern or manifest; local or s3://")
    output: str = option(MISSING, "folder for the results; local or s3://")
    tokens: bool = option(False, "store the token of every frame with the shards")
    quiet: bool = option(False, "print a line every 30 s instead of a progress bar")
    log: LogConfig = group(LogConfig, "logging")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model")
    engine: EngineConfig = group(EngineConfig, "device, precision and batch size")
    cluster: ClusterConfig = group(ClusterConfig, "workers and timeouts")
    source: SourceConfig = group(SourceConfig, "channels, scratch space and decoding")
    shard: ShardConfig = group(ShardConfig, "how recordings are cut into shards")
    language_prompts: dict[str, str] = option(
        {},
        "example speech played ahead of recordings whose manifest names that language, as in "
        "language_prompts.fr=hello.wav",
    )
    ray: RayConfig = group(RayConfig, "which Ray cluster")
    s3: S3Config = group(S3Config, "access to object stores")
    planning: PlanningConfig = group(PlanningConfig, "order of the work")
    guards: GuardsConfig = group(GuardsConfig, "thresholds of the guards")
    failures: FailuresConfig = group(FailuresConfig, "what counts as a success")
    intervals: IntervalsConfig = group(IntervalsConfig, "how often results and status are written")
    lease: LeaseConfig = group(LeaseConfig, "one writer at a time to an output")


def transcribe_archive(config: TranscribeConfig) -> int:
    """Do what is left to do; the exit code."""
    is_logged = config.log.format == "json"
    with logged(config.log) as log, Display(config.output, config.quiet, is_logged) as display:
        return _transcribe(config, log, display)


def _transcribe(config: TranscribeConfig, log: Log, display: Display) -> int:
    # Raises for a wrong input before seconds of imports.
    skipped = Counter[str]()
    found = recordings(config.input, config.s3, skipped)
    display.begin("reading the model")
    from nightscribe.cluster.driver import transcribe
    from nightscribe.cluster.ray_session import connected, session_folder
    from nightscribe.cluster.resources import pool_for
    from nightscribe.model.checkpoints.open import open_model

    checkpoint = open_model(config.model)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    prompts = read_prompts(config.language_prompts, config.source.decode, rate_hz)
    store = open_store(config.output, config.s3)
    display.begin("connecting to Ray" if config.ray.address else "starting Ray")
    with connected(config.ray, config.cluster):
        display.begin("listing recordings")
        pool = pool_for(config.cluster, config.engine.num_slots)
        with (
            _plan(found, config.planning, skipped) as path,
            stopped_by_signals() as stop,
        ):
            display.begin("comparing with earlier results")

            def report(progress: "Progress") -> None:
                display.show(progress)
                log.publish_when_due(store, session_folder())

            try:
                spec = run_spec(config, checkpoint, prompts, path)
                progress = transcribe(spec, pool, stop, report)
            finally:
                log.publish(store, session_folder())
    display.summarise(progress)
    return exit_code(progress, config.failures.max)


def exit_code(progress: "Progress", max_failures: int | None) -> int:
    if progress.state != "finished":
        return INTERRUPTED
    too_many = max_failures is not None and progress.num_failures > max_failures
    return TOO_MANY_FAILURES if too_many else 0


def settings(
    config: TranscribeConfig, checkpoint: "Checkpoint", prompts: LanguagePrompts
) -> Settings:
    """Everything that may change the words; with other settings it is another run."""
    return {
        "model": config.model.name,
        "model_revision": checkpoint.revision,
        "model_delay_steps": checkpoint.config.delay_steps,
        "model_silence_prefix_s": checkpoint.config.silence_prefix_s,
        "model_domain": config.model.domain,
        "model_domains": repr(sorted(config.model.domains.items())),
        "model_num_codebooks": checkpoint.config.language_model.num_codebooks,
        "model_start_token": config.model.start_token,
        "engine_dtype": config.engine.dtype,
        "engine_cache": config.engine.kv_cache_dtype,
        "channels": config.source.channels,
        "max_recording_s": config.source.decode.max_recording_s,
        "tokens": config.tokens,
        **{f"language_prompt_{name}": digest for name, digest in digests(prompts).items()},
        **{f"shard_{name}": value for name, value in asdict(config.shard).items()},
        **{f"guards_{name}": value for name, value in asdict(config.guards).items()},
    }


@contextmanager
def _plan(
    found: Iterable[Recording], planning: PlanningConfig, skipped: Counter[str]
) -> Iterator[Path]:
    """The archive as it is now, as a file; the driver compares it with the plan of the run."""
    from nightscribe.storage.run import write_plan

    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        path = Path(folder) / "plan.parquet"
        write_plan(plan(found, ContentHasher(), planning), path)
        if skipped:
            log.warning(
                "%d files were skipped, by suffix: %s; a pattern such as input='FOLDER/**' takes "
                "every file",
                skipped.total(),
                describe_skipped(skipped),
            )
        yield path


def engine_of(config: TranscribeConfig) -> EngineConfig:
    """Where several actors share a GPU, each fills no more than its share of the memory."""
    share = min(config.cluster.gpus_per_actor or 1.0, config.engine.gpu_memory_share)
    return replace(config.engine, gpu_memory_share=share)


def run_spec(
    config: TranscribeConfig, checkpoint: "Checkpoint", prompts: LanguagePrompts, plan_path: Path
) -> "RunSpec":
    """Everything that the driver needs to know."""
    from nightscribe.cluster.driver import RunSpec

    return RunSpec(
        plan=plan_path,
        settings=settings(config, checkpoint, prompts),
        config_text=OmegaConf.to_yaml(OmegaConf.structured(config)),
        stages=_stages(config, checkpoint, prompts),
        examine=partial(add_inspection, config=config.guards),
        cluster=config.cluster,
        intervals=config.intervals,
        lease=config.lease,
        retry=config.failures.retry,
    )


def _stages(
    config: TranscribeConfig, checkpoint: "Checkpoint", prompts: LanguagePrompts
) -> "Stages":
    from nightscribe.cluster.audio_reader import AudioReader
    from nightscribe.cluster.dataset import Stages
    from nightscribe.cluster.worker import ShardOptions
    from nightscribe.model.prompting import Prompt
    from nightscribe.transcription.transcriber import Transcriber

    reader = AudioReader(
        sample_rate_hz=checkpoint.config.mimi.sample_rate_hz,
        source=config.source,
        shard=config.shard,
        guards=config.guards,
        s3=config.s3,
    )
    return Stages(
        read=reader,
        make_transcriber=partial(Transcriber.load, config.model, engine_of(config), config.guards),
        output=config.output,
        s3=config.s3,
        shards=ShardOptions(
            keep_tokens=config.tokens,
            language_prompts={
                language: Prompt(samples_N=samples_N) for language, samples_N in prompts.items()
            },
        ),
    )


JOB = Job(name="transcribe", config=TranscribeConfig, run=transcribe_archive)
