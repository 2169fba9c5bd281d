"""`nightscribe correct RUN CORRECTIONS`: store transcripts that people corrected."""

from dataclasses import dataclass

from omegaconf import MISSING

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.storage.corrections import correct, read_corrections
from nightscribe.storage.lease import LeaseConfig, take
from nightscribe.storage.locations import S3Config, open_file
from nightscribe.storage.manifests import is_manifest
from nightscribe.storage.result_tables import open_run


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrectConfig:
    """Store transcripts that people corrected; no later revision of a machine replaces them."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    corrections: str = option(
        MISSING, "manifest with id or uri, and text or words: .csv, .jsonl or .parquet"
    )
    by: str = option("", "who corrected them; becomes model_revision, beside the model `person`")
    retire_s: float = option(
        30.0, "seconds that replaced table files stay for readers that have listed them", minimum=0
    )
    s3: S3Config = group(S3Config, "access to object stores")
    lease: LeaseConfig = group(LeaseConfig, "one writer at a time to an output")

    def __post_init__(self) -> None:
        check_options(self)


def correct_run(config: CorrectConfig) -> int:
    if not is_manifest(config.corrections):
        raise ValueError(
            f"{config.corrections} is not a manifest: its name must end in .csv, .jsonl or .parquet"
        )
    run = open_run(config.run, config.s3)
    store, key = open_file(config.corrections, config.s3)
    with store.open(key) as file:
        corrections = list(read_corrections(config.corrections, file))
    with take(run, config.lease) as lease:
        num_changed = correct(run, corrections, config.by, lease.check, config.retire_s)
    console(soft_wrap=True).print(
        f"{num_changed:,} transcripts were corrected, "
        f"{len(corrections) - num_changed:,} said the same already"
    )
    return 0


JOB = Job(name="correct", config=CorrectConfig, run=correct_run, positional=("run", "corrections"))
