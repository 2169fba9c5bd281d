"""The tables that people see of an evaluation."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Column, Table

from nightscribe.jobs.shell.terminal import clock

LEADERBOARD = "open ASR leaderboard of 2026"


def score_tables(
    total: dict[str, Any],
    by_recording: Sequence[dict[str, Any]],
    num_worst: int,
    num_confusions: int,
) -> Iterator[Table]:
    """What people see of an evaluation."""
    if total["normalised"]["reference_words"]:
        yield _rates_table(total)
    yield _facts_table(total)
    if total["speakers"]:
        yield _speakers_table(total["speakers"])
    yield from _worst_tables(by_recording, num_worst)
    for title in ("substitutions", "deletions", "insertions"):
        if total[title]:
            yield _words_table(title, total[title][:num_confusions])


def _worst_tables(by_recording: Sequence[dict[str, Any]], num_worst: int) -> Iterator[Table]:
    worst = [row for row in by_recording if row.get("reference_words") is not None]
    if worst:
        yield _worst_table(worst[:num_worst])
    spoken = [row for row in by_recording if row.get("diarization_error_rate") is not None]
    spoken.sort(key=lambda row: -row["diarization_error_rate"])
    if spoken:
        yield _worst_speakers_table(spoken[:num_worst])


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


def _speakers_table(total: dict[str, Any]) -> Table:
    table = Table("speakers", "DER", "missed", "false alarm", "confused", "JER", "cpWER", "tcpWER")
    seconds = [total[name] for name in ("missed_s", "false_alarm_s", "confused_s")]
    table.add_row(
        f"{total['num_rightly_counted']} of {total['num_recordings']} counts right",
        _percent(total["diarization_error_rate"]),
        *(
            _percent(one_s / total["reference_s"] if total["reference_s"] else None)
            for one_s in seconds
        ),
        _percent(total["jaccard_error_rate"]),
        _percent(total["cp_word_error_rate"]),
        _percent(total["tcp_word_error_rate"]),
    )
    return table


def _worst_speakers_table(worst: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        Column("most errors of speakers", overflow="fold"), "DER", "cpWER", "speakers", "found"
    )
    for row in worst:
        rates = (row["diarization_error_rate"], row["cp_word_error_rate"])
        counts = (row["num_speakers"], row["num_speakers_found"])
        table.add_row(row["uri"], *map(_percent, rates), *map(str, counts))
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
