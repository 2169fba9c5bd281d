"""`nightscribe evaluate RUN`: score a run against reference transcripts; `texts=` judges speech."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from omegaconf import MISSING

from nightscribe.jobs.evaluate_tts import EVALUATE_TTS
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.score_tables import score_tables
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.reading.evaluation import (
    empty_transcripts,
    evaluate,
    files_to_evaluate,
    rows,
    totals,
    write_evaluation,
)
from nightscribe.reading.references import References, read_references
from nightscribe.reading.run_status import read_status, throughput_of
from nightscribe.reading.speaker_evaluation import SpeakerEvaluation, evaluate_speakers
from nightscribe.reading.speaker_references import read_rttm
from nightscribe.storage.locations import S3Config
from nightscribe.storage.result_tables import (
    open_run,
    published_uris,
    read_failures,
    read_transcripts,
)
from nightscribe.storage.store import Store

MAX_NAMES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Score a run against references: errors of words, characters, translations and speakers."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    reference: str | None = option(
        None,
        "manifest with a column text, words or speaker_spans, or a data set on the hub "
        "(ORGANISATION/NAME); unset: the manifest that was transcribed",
    )
    rttm: str | None = option(
        None, "RTTM file of who speaks when, or a folder of them; recordings by name without suffix"
    )
    collar_s: float = option(
        0.0, "seconds around each boundary of a reference that DER and JER leave out", minimum=0
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
    if config.rttm is not None:
        references = replace(references, spoken_by_name=read_rttm(config.rttm, config.s3))
    pairs = files_to_evaluate(
        read_transcripts(store), read_failures(store), references, config.language
    )
    compared = list(pairs)
    speakers = _speakers(store, references, config)
    if not compared and not speakers.scores:
        raise ValueError(_nothing_to_score(config, speakers, next(published_uris(store), None)))
    throughput = throughput_of(read_status(store))
    evaluation = evaluate(compared, config.translated, throughput, speakers)
    write_evaluation(store, evaluation)
    terminal = console()
    for table in score_tables(
        totals(evaluation), rows(evaluation), config.num_worst, config.num_confusions
    ):
        terminal.print(table)
    unused = references.not_used(one.reference for one in compared)
    for sentence in (*_unused(references, unused), *_not_told_apart(speakers)):
        terminal.print(sentence, soft_wrap=True)
    return 0


def _speakers(store: Store, references: References, config: EvaluateConfig) -> SpeakerEvaluation:
    failed = empty_transcripts(read_failures(store), references.num_channels())
    return evaluate_speakers(
        read_transcripts(store), failed, references, config.language, config.collar_s
    )


def _not_told_apart(speakers: SpeakerEvaluation) -> Iterator[str]:
    if speakers.num_not_told_apart:
        yield (
            f"recordings whose speakers this run did not tell apart (speakers=on does): "
            f"{speakers.num_not_told_apart:,}"
        )


def _unused(references: References, names: Sequence[str]) -> Iterator[str]:
    """What of the references was not compared with anything."""
    if names:
        listed = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        yield f"references of files that are not in this run: {len(names):,} ({listed})"
    if references.num_without_text:
        yield f"rows without a text or words: {references.num_without_text:,}"


def _nothing_to_score(config: EvaluateConfig, speakers: SpeakerEvaluation, uri: str | None) -> str:
    if speakers.num_not_told_apart:
        return f"{config.run} did not tell speakers apart: transcribe with speakers=on"
    if config.rttm is not None:
        return f"{config.rttm} names no recording of {config.run}, such as {uri}"
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
