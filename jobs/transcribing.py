"""What `nightscribe transcribe` does once its words are understood; ray takes seconds to load."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from nightscribe.cluster.audio_reader import AudioReader
from nightscribe.cluster.dataset import Stages
from nightscribe.cluster.driver import RunSpec, transcribe
from nightscribe.cluster.progress import Progress
from nightscribe.cluster.ray_session import connected, session_folder
from nightscribe.cluster.resources import pool_for
from nightscribe.cluster.worker import ShardOptions
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.inspection import add_inspection
from nightscribe.jobs.command import INTERRUPTED
from nightscribe.jobs.display import Display
from nightscribe.jobs.language_prompts import Primers, digests, read_primers
from nightscribe.jobs.logs import Log, logged
from nightscribe.jobs.signals import stopped_by_signals
from nightscribe.jobs.transcribe import TranscribeConfig
from nightscribe.model.checkpoints.open import Checkpoint, open_model
from nightscribe.model.prompting import Prompt
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import open_store
from nightscribe.storage.run import Settings, write_plan
from nightscribe.storage.sources import recordings
from nightscribe.transcription.transcriber import Transcriber

TOO_MANY_FAILURES = 1


def transcribe_archive(config: TranscribeConfig) -> int:
    """Do what is left to do; the exit code."""
    with logged(config.log) as kept:
        return _transcribe(config, kept)


def _transcribe(config: TranscribeConfig, kept: Log) -> int:
    checkpoint = open_model(config.model)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    primers = read_primers(config.primers, config.source.decode, rate_hz)
    store = open_store(config.output, config.s3)
    found = recordings(config.input, config.s3)  # or what is wrong with it, before Ray is started
    with connected(config.ray, config.cluster):
        pool = pool_for(config.cluster, config.engine.num_slots)
        with (
            _plan(found, config.planning) as path,
            stopped_by_signals() as stop,
            Display(config.output, config.quiet, is_logged=config.log.format == "json") as display,
        ):

            def tell(progress: Progress) -> None:
                display.show(progress)
                kept.keep_pace(store, session_folder())

            try:
                progress = transcribe(_order(config, checkpoint, primers, path), pool, stop, tell)
            finally:
                kept.publish(store, session_folder())
    display.summarise(progress)
    return exit_code(progress, config.failures.max)


def exit_code(progress: Progress, max_failures: int | None) -> int:
    if progress.state != "finished":
        return INTERRUPTED
    too_many = max_failures is not None and progress.num_failures > max_failures
    return TOO_MANY_FAILURES if too_many else 0


def settings(config: TranscribeConfig, checkpoint: Checkpoint, primers: Primers) -> Settings:
    """Everything that changes what is said; with other settings it is another run."""
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
        "engine_cache": config.engine.cache,
        "channels": config.source.channels,
        "max_recording_s": config.source.decode.max_recording_s,
        "tokens": config.tokens,
        **{f"primer_{language}": digest for language, digest in digests(primers).items()},
        **{f"shard_{name}": value for name, value in asdict(config.shard).items()},
        **{f"guards_{name}": value for name, value in asdict(config.guards).items()},
    }


@contextmanager
def _plan(found: Iterable[Recording], planning: PlanningConfig) -> Iterator[Path]:
    """What there is now, as a file: the run compares it with what it was begun with."""
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        path = Path(folder) / "plan.parquet"
        write_plan(plan(found, ContentHasher(), planning), path)
        yield path


def engine_of(config: TranscribeConfig) -> EngineConfig:
    """Where several share a GPU, each fills no more than its share of the memory."""
    share = min(config.cluster.gpus_per_actor or 1.0, config.engine.gpu_share)
    return replace(config.engine, gpu_share=share)


def _order(
    config: TranscribeConfig, checkpoint: Checkpoint, primers: Primers, plan_path: Path
) -> RunSpec:
    return RunSpec(
        plan=plan_path,
        settings=settings(config, checkpoint, primers),
        config_text=OmegaConf.to_yaml(OmegaConf.structured(config)),
        stages=_stages(config, checkpoint, primers),
        examine=partial(add_inspection, config=config.guards),
        cluster=config.cluster,
        pace=config.pace,
        lease=config.lease,
        retry=config.failures.retry,
    )


def _stages(config: TranscribeConfig, checkpoint: Checkpoint, primers: Primers) -> Stages:
    reader = AudioReader(
        sample_rate_hz=checkpoint.config.mimi.sample_rate_hz,
        source=config.source,
        shard=config.shard,
        guards=config.guards,
        s3=config.s3,
    )
    load = partial(Transcriber.load, config.model, engine_of(config), config.guards)
    return Stages(
        read=reader,
        make_transcriber=load,
        output=config.output,
        s3=config.s3,
        shards=ShardOptions(
            keep_tokens=config.tokens,
            language_prompts={
                language: Prompt(samples_N=samples_N) for language, samples_N in primers.items()
            },
        ),
    )
