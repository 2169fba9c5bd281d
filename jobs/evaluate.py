"""`nightscribe evaluate RUN`: score a run against reference transcripts; `texts=` judges speech."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omegaconf import MISSING

from nightscribe.jobs.evaluate_tts import EVALUATE_TTS
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.score_tables import score_tables
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.reading.evaluation import (
    evaluate,
    files_to_evaluate,
    rows,
    totals,
    write_evaluation,
)
from nightscribe.reading.references import References, read_references
from nightscribe.reading.run_status import read_status, throughput_of
from nightscribe.storage.locations import S3Config
from nightscribe.storage.result_tables import (
    open_run,
    published_uris,
    read_failures,
    read_transcripts,
)

MAX_NAMES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Score the transcripts of a run against references: word, character and translation errors."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    reference: str | None = option(
        None,
        "manifest with a column text or words, or a data set on the hub (ORGANISATION/NAME); "
        "unset: the manifest that was transcribed",
    )
    split: str | None = option(None, "split of a data set on the hub; unset: all of it")
    language: str = option("en", "language of recordings whose manifest names none")
    translated: list[str] = option([], "domains whose references are translations")
    num_worst: int = option(10, "how many of the worst files to list", minimum=0)
    num_confusions: int = option(
        10, "how many substitutions, deletions and insertions to list", minimum=0
    )
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)


def evaluate_run(config: EvaluateConfig) -> int:
    store = open_run(config.run, config.s3)
    references = read_references(config.reference, config.split, config.s3)
    pairs = files_to_evaluate(
        read_transcripts(store), read_failures(store), references, config.language
    )
    compared = list(pairs)
    if not compared:
        raise ValueError(_nothing_to_score(config, next(published_uris(store), None)))
    evaluation = evaluate(compared, config.translated, throughput_of(read_status(store)))
    write_evaluation(store, evaluation)
    terminal = console()
    for table in score_tables(
        totals(evaluation), rows(evaluation), config.num_worst, config.num_confusions
    ):
        terminal.print(table)
    for sentence in _unused(references, references.not_used(one.reference for one in compared)):
        terminal.print(sentence, soft_wrap=True)
    return 0


def _unused(references: References, names: Sequence[str]) -> Iterator[str]:
    """What of the references was not compared with anything."""
    if names:
        listed = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        yield f"references of files that are not in this run: {len(names):,} ({listed})"
    if references.num_without_text:
        yield f"rows without a text or words: {references.num_without_text:,}"


def _nothing_to_score(config: EvaluateConfig, uri: str | None) -> str:
    if config.reference is None:
        return f"{config.run} has no references; give reference=MANIFEST with columns uri and text"
    return f"{config.reference} has no reference for any recording of {config.run}, such as {uri}"


JOB = Job(
    name="evaluate",
    config=EvaluateConfig,
    run=evaluate_run,
    positional=("run",),
    instead={"texts": EVALUATE_TTS},
)
