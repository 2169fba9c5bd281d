"""`nightscribe evaluate RUN`: score a run against reference transcripts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING
from rich.table import Column, Table

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import clock, console
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
LEADERBOARD = "open ASR leaderboard of 2026"


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
    for table in _tables(totals(evaluation), rows(evaluation), config):
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


def _tables(
    total: dict[str, Any], by_recording: Sequence[dict[str, Any]], config: EvaluateConfig
) -> Iterator[Table]:
    yield _rates_table(total)
    yield _facts_table(total)
    worst = [row for row in by_recording if row.get("reference_words") is not None]
    yield _worst_table(worst[: config.num_worst])
    for title in ("substitutions", "deletions", "insertions"):
        if total[title]:
            yield _words_table(title, total[title][: config.num_confusions])


def _rates_table(total: dict[str, Any]) -> Table:
    table = Table("", "corpus WER", "mean WER", "CER", "words", "sub", "del", "ins")
    scores = {"Whisper's normaliser": total["normalised"], "raw": total["raw"]}
    if len(total["by_language"]) > 1:
        scores |= total["by_language"]
    for name, score in scores.items():
        rates = ("word_error_rate", "mean_word_error_rate", "character_error_rate")
        counts = ("reference_words", "substitutions", "deletions", "insertions")
        shown = [*(_percent(score[key]) for key in rates), *(str(score[key]) for key in counts)]
        table.add_row(name, *shown)
    if leaderboard := total["leaderboard_2026"]:
        rate, num_words = leaderboard["word_error_rate"], leaderboard["reference_words"]
        table.add_row(f"{LEADERBOARD}, English", _percent(rate), "", "", str(num_words))
    return table


def _facts_table(total: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("recordings", str(total["num_recordings"]))
    table.add_row("hours", clock(total["duration_s"]))
    if total["times_real_time"] is not None:
        table.add_row("throughput of the run", f"{total['times_real_time']:,.1f} times real time")
    if total["occupancy"] is not None:
        table.add_row("slot occupancy", f"{total['occupancy']:.1%}")
    if total["bleu"] is not None:
        table.add_row("BLEU of translations", f"{total['bleu']:.2f} ({total['bleu_signature']})")
    if total["num_timed_words"]:
        median_s, p90_s = total["start_error_median_s"], total["start_error_p90_s"]
        table.add_row("error of word starts", f"{median_s:.3f} s (median), {p90_s:.3f} s (p90)")
        late_s, num_words = total["start_shift_median_s"], total["num_timed_words"]
        table.add_row("", f"shifted by {late_s:+.3f} s (median), {num_words:,} correct words")
    return table


def _worst_table(worst: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        Column("worst files", overflow="fold"), "WER", "words", "hypothesis", title_justify="left"
    )
    for row in worst:
        text = row["hypothesis"] if len(row["hypothesis"]) < 60 else row["hypothesis"][:57] + "..."
        table.add_row(
            row["uri"], _percent(row["word_error_rate"]), str(row["reference_words"]), text
        )
    return table


def _words_table(title: str, counts: Sequence[tuple[str, int]]) -> Table:
    table = Table(title, "times")
    for words, times in counts:
        table.add_row(words, str(times))
    return table


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2%}"


JOB = Job(name="evaluate", config=EvaluateConfig, run=evaluate_run, positional=("run",))
