"""`nightscribe transcribe input=URI output=URI model=NAME`: transcribe an archive, on Ray.

Ray and torch take seconds to import: functions do it once the command line is known to be right.
"""

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import MISSING, OmegaConf

from nightscribe.audio.segmentation import ShardConfig, probable_shards
from nightscribe.budget import CURRENCIES
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.shell.attempts import ShellAttempt, exit_code, limits
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.display import Display
from nightscribe.jobs.shell.examination import examined
from nightscribe.jobs.shell.few_streams import engine_for
from nightscribe.jobs.shell.language_prompts import (
    LanguagePrompts,
    digests,
    read_prompt,
    read_prompts,
)
from nightscribe.jobs.shell.logs import Log, LogConfig, logged
from nightscribe.jobs.shell.night_log import describe_receipt
from nightscribe.jobs.shell.notifications import check_notifications
from nightscribe.jobs.shell.recording_terms import RecordingTerms
from nightscribe.jobs.shell.run_options import FailuresConfig, ReviseConfig
from nightscribe.jobs.shell.terminal import stopped_by_signals
from nightscribe.jobs.shell.workplace import Workplace
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.terms_config import Terms, TermsConfig
from nightscribe.options import check_options, group, option
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording
from nightscribe.runs.audio_reader import SourceConfig
from nightscribe.runs.config import ClusterConfig, IntervalsConfig, RayConfig
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.generations import generations
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.locations import open_store
from nightscribe.storage.plan_changes import MISSING_FILES
from nightscribe.storage.run import Settings, check_settings, check_writable
from nightscribe.storage.s3 import S3Config
from nightscribe.storage.sources import describe_skipped, recordings
from nightscribe.storage.store import Store

if TYPE_CHECKING:
    from nightscribe.model.checkpoints.open import Checkpoint
    from nightscribe.runs.attempt import RunSpec
    from nightscribe.runs.shards import Stages
    from nightscribe.storage.run import Night
    from nightscribe.transcription.transcriber import Transcriber

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscribeConfig:
    """Transcribe an archive. The same command resumes, and on a later night adds what is new."""

    input: str = option(MISSING, "file, folder, glob pattern or manifest; local or s3://")
    output: str = option(MISSING, "folder for the results; local or s3://")
    tokens: bool = option(False, "store the token of every frame with the shards")
    quiet: bool = option(False, "print a line every 30 s instead of a progress bar")
    missing: str = option(
        "keep",
        "what happens to transcripts whose file is not found any more: keep or drop",
        choices=MISSING_FILES,
        common=True,
    )
    max_dropped_share: float = option(
        0.5, "refuse missing=drop if more of the archive is missing", minimum=0, maximum=1
    )
    revise: ReviseConfig = group(ReviseConfig, "whether to transcribe anew what is there")
    order: str | None = option(
        None,
        "what comes first: longest, newest or a number column of the manifest, highest first",
        common=True,
    )
    deadline: str | None = option(
        None,
        "begin nothing that would not end by then: 07:00, or a date and time such as "
        "2026-12-01T07:00, by the clock of this machine",
        common=True,
    )
    budget: float | None = option(
        None, "most to spend in one night; needs price_per_gpu_hour", above=0, common=True
    )
    price_per_gpu_hour: float | None = option(
        None, "price of an hour of one GPU, or of one worker without a GPU", above=0, common=True
    )
    currency: str = option("USD", "currency of budget and price", choices=CURRENCIES)
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
    terms: TermsConfig = group(TermsConfig, "names and rare words to prefer")
    ray: RayConfig = group(RayConfig, "which Ray cluster")
    s3: S3Config = group(S3Config, "access to object stores")
    planning: PlanningConfig = group(PlanningConfig, "order of the work")
    guards: GuardsConfig = group(GuardsConfig, "thresholds of the guards")
    speakers: SpeakersConfig = group(SpeakersConfig, "who speaks: speakers=on")
    failures: FailuresConfig = group(FailuresConfig, "what counts as a success")
    intervals: IntervalsConfig = group(IntervalsConfig, "how often results and status are written")
    lease: LeaseConfig = group(LeaseConfig, "one writer at a time to an output")

    def __post_init__(self) -> None:
        check_options(self)
        limits(self, num_gpus=1.0)  # says what is wrong before anything is started


def transcribe_archive(config: TranscribeConfig) -> int:
    """Do what is left to do; the exit code."""
    is_logged = config.log.format == "json"
    with logged(config.log) as run_log, Display(config.output, config.quiet, is_logged) as display:
        return _transcribe(config, run_log, display)


def _transcribe(config: TranscribeConfig, run_log: Log, display: Display) -> int:
    # What is wrong is said before seconds of imports, or else before Ray is started.
    skipped = Counter[str]()
    found = recordings(config.input, config.s3, skipped)
    check_notifications("transcribe")
    display.begin("reading the model")
    from nightscribe.model.checkpoints.open import open_model

    checkpoint = open_model(config.model)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    prompts = read_prompts(config.language_prompts, config.source.decode, rate_hz)
    store = open_store(config.output, config.s3)
    own_terms = RecordingTerms(checkpoint.tokenizer)
    _check_terms(config, checkpoint)
    check_settings(
        store, generations(store), settings(config, checkpoint, prompts), config.revise.revision
    )
    check_writable(store)
    with Workplace(config, config.engine.num_slots, display) as place:
        display.begin("listing recordings")
        with (
            _compared(store, own_terms.checked(found), config, skipped) as (path, night),
            stopped_by_signals() as stop,
        ):
            display.begin("comparing with earlier results")
            own_terms.are_there |= night.compared is not None and night.compared.has_terms()
            terms = own_terms.with_those_of_the_run(config.terms)
            spec = replace(run_spec(config, checkpoint, prompts, path, terms), night=night)
            attempt = ShellAttempt(
                store=store, config=config, place=place, run_log=run_log, display=display
            )
            progress, receipt = attempt.run(spec, stop)
    display.summarise(progress, describe_receipt(receipt))
    return exit_code(progress, config.failures.max, receipt.stopped_by is not None)


def _check_terms(config: TranscribeConfig, checkpoint: "Checkpoint") -> None:
    """Of the run; those of recordings are checked while they are listed."""
    from nightscribe.transcription.transcriber import term_trie

    terms = config.terms.read()
    if terms is not None:
        terms.check_passes(config.engine.frames_per_pass)
        term_trie(terms, checkpoint.tokenizer)


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
        # Left out where it is not set, so that older runs stay the same.
        **({} if config.source.decode.track is None else {"track": config.source.decode.track}),
        "tokens": config.tokens,
        **{f"language_prompt_{name}": digest for name, digest in digests(prompts).items()},
        **_terms_digest(config.terms),
        **{f"shard_{name}": value for name, value in asdict(config.shard).items()},
        **{f"guards_{name}": value for name, value in asdict(config.guards).items()},
        **_speaker_settings(config.speakers),
    }


def _speaker_settings(speakers: SpeakersConfig) -> Settings:
    """None where speakers are off, as in runs of earlier versions."""
    if not speakers.is_on:
        return {}
    return {f"speakers_{name}": value for name, value in asdict(speakers).items()}


def _terms_digest(terms: TermsConfig) -> Settings:
    found = terms.read()
    if found is None:
        return {}
    digest = hashlib.sha256("\n".join(found.texts).encode()).hexdigest()
    return {"terms": digest, "terms_strength": found.strength}


@contextmanager
def _compared(
    store: Store, found: Iterable[Recording], config: TranscribeConfig, skipped: Counter[str]
) -> Iterator[tuple[Path, "Night"]]:
    """What is new in the archive, planned, as a file, and the plan that it was compared with."""
    from nightscribe.storage.current_plan import read_current
    from nightscribe.storage.run import Night, write_plan

    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        path = Path(folder) / "plan.parquet"
        before = read_current(store, path.parent)
        write_plan(plan(before.unseen(found), ContentHasher(), config.planning), path)
        if skipped:
            log.warning(
                "skipped by suffix: %s (%d in all); a pattern such as input='FOLDER/**' takes "
                "every file",
                describe_skipped(skipped),
                skipped.total(),
            )
        night = Night(
            missing=config.missing,
            max_dropped_share=config.max_dropped_share,
            revision=config.revise.revision,
            retry=config.failures.retry,
            order=config.order,
            compared=before,
        )
        yield path, night


def engine_of(config: TranscribeConfig) -> EngineConfig:
    """Where several actors share a GPU, each fills no more than its share of the memory."""
    share = min(config.cluster.gpus_per_actor or 1.0, config.engine.gpu_memory_share)
    return replace(config.engine, gpu_memory_share=share)


def run_spec(
    config: TranscribeConfig,
    checkpoint: "Checkpoint",
    prompts: LanguagePrompts,
    plan_path: Path,
    terms: Terms | None = None,
) -> "RunSpec":
    """Everything that the driver needs to know."""
    from nightscribe.runs.attempt import RunSpec

    if terms is not None:
        terms.check_passes(config.engine.frames_per_pass)

    return RunSpec(
        plan=plan_path,
        settings=settings(config, checkpoint, prompts),
        config_text=OmegaConf.to_yaml(OmegaConf.structured(config)),
        stages=_stages(config, checkpoint, prompts, terms),
        load_here=partial(_load_here, config, checkpoint, terms),
        examine=partial(examined, guards=config.guards, speakers=config.speakers),
        cluster=config.cluster,
        intervals=config.intervals,
        lease=config.lease,
    )


def _stages(
    config: TranscribeConfig,
    checkpoint: "Checkpoint",
    prompts: LanguagePrompts,
    terms: Terms | None,
) -> "Stages":
    from nightscribe.model.prompting import Prompt
    from nightscribe.runs.audio_reader import AudioReader
    from nightscribe.runs.shards import ShardOptions, Stages
    from nightscribe.transcription.transcriber import Transcriber

    rate_hz = checkpoint.config.mimi.sample_rate_hz
    reader = AudioReader(
        sample_rate_hz=rate_hz,
        source=config.source,
        shard=config.shard,
        guards=config.guards,
        s3=config.s3,
    )
    return Stages(
        read=reader,
        make_transcriber=partial(
            Transcriber.load,
            config.model,
            engine_of(config),
            config.guards,
            config.speakers,
            terms,
        ),
        output=config.output,
        s3=config.s3,
        shards=ShardOptions(
            keep_tokens=config.tokens,
            language_prompts={
                language: Prompt(samples_N=samples_N) for language, samples_N in prompts.items()
            },
            read_prompt=partial(read_prompt, config.source.decode, rate_hz, config.s3),
        ),
    )


def _load_here(
    config: TranscribeConfig,
    checkpoint: "Checkpoint",
    terms: Terms | None,
    durations_s: Sequence[float],
) -> "Transcriber":
    from nightscribe.transcription.transcriber import Transcriber

    num_shards = sum(probable_shards(duration_s, config.shard) for duration_s in durations_s)
    engine = engine_for(config.engine, num_shards, has_terms=terms is not None)
    return Transcriber.from_checkpoint(
        checkpoint, config.model, engine, config.guards, config.speakers, terms
    )


JOB = Job(name="transcribe", config=TranscribeConfig, run=transcribe_archive)
