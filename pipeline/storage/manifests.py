"""Manifests, the users' lists of recordings: CSV, JSON lines or Parquet, read row by row."""

import csv
import io
import itertools
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pyarrow as pa

from nightscribe.records import SpeakerSpan, Word
from nightscribe.storage.tables import open_table

# Lists in manifests of texts.
LISTS = ("turns", "voices")
# Our names, and the names under which common tools write the same.
COLUMNS = {
    "uri": ("uri", "path", "audio_filepath", "audio"),
    "start_s": ("start_s", "start", "offset"),
    "end_s": ("end_s", "end"),
    "expected_s": ("expected_s", "duration"),
    "channel": ("channel",),
    "language": ("language",),
    "domain": ("domain",),
    "text": ("text", "reference"),
    "words": ("words",),
    "speaker_spans": ("speaker_spans",),
    "num_speakers": ("num_speakers",),
    "cuts_s": ("cuts_s", "cuts"),
    "prompt": ("prompt",),
    "prompt_audio": ("prompt_audio",),
    "terms": ("terms",),
    "size_bytes": ("size_bytes",),
    "version": ("version",),
}
SECONDS = ("start_s", "end_s", "expected_s")
WHOLE_NUMBERS = ("channel", "size_bytes", "num_speakers")

log = logging.getLogger(__name__)


# One cell may hold the text of a whole recording.
csv.field_size_limit(2**31 - 1)


def read_manifest(name: str, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows under our names and with our types; empty cells are left out.

    Columns of other names are in `extra`, as JSON.
    """
    unknown: set[str] = set()
    for where, row in named_rows(name, file):
        new = {str(column) for column in row} - {*_OUR_NAME} - unknown
        if new:
            log.warning(
                "%s: columns of other names have no effect and are kept in the column extra: %s",
                name,
                ", ".join(sorted(new)),
            )
            unknown |= new
        yield _typed(row, where)


def named_rows(name: str, file: BinaryIO) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row as it is in the file, with its name for messages."""
    for number, row in enumerate(_rows(name, file), start=1):
        where = f"{name} row {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: expected columns with names, got {row!r:.60}")
        yield where, row


def _rows(name: str, file: BinaryIO) -> Iterator[Any]:
    try:
        yield from READERS[suffix_of(name)](file)
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not in UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        hint = "; a quote is not closed" if "unexpected end" in str(error) else ""
        raise ValueError(f"{name} cannot be read as .csv: {error}{hint}") from None
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name} cannot be read as {suffix_of(name)}: {error}") from None


def is_manifest(name: str) -> bool:
    return suffix_of(name) in READERS


def suffix_of(name: str) -> str:
    return "." + name.rpartition(".")[2].lower()


def _typed(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = {
        _OUR_NAME[column]: value
        for column, value in row.items()
        if column in _OUR_NAME and value is not None and value != ""
    }
    if "uri" not in given:
        raise ValueError(
            f"{where}: no file is named; expected a column {' or '.join(COLUMNS['uri'])} with its "
            f"name, got {', '.join(map(str, row)):.80}"
        )
    typed = {name: _value(name, value, where) for name, value in given.items()}
    extra = {str(name): value for name, value in row.items() if name not in _OUR_NAME}
    if extra:
        typed["extra"] = json.dumps(extra, sort_keys=True, default=str, ensure_ascii=False)
    # A file from its beginning is read to its end: its duration may be a rough value.
    is_segment = "offset" in row or typed.get("start_s", 0.0) > 0
    if is_segment and "expected_s" in typed:
        typed.setdefault("end_s", typed.get("start_s", 0.0) + typed["expected_s"])
    _check_span(typed, where)
    return typed


def _check_span(row: Mapping[str, Any], where: str) -> None:
    start_s, end_s = row.get("start_s", 0.0), row.get("end_s")
    if start_s < 0:
        raise ValueError(f"{where}: start ({start_s:g}) is negative")
    if end_s is not None and end_s <= start_s:
        raise ValueError(f"{where}: end ({end_s:g}) is not after start ({start_s:g})")


def timed_words(value: Any, where: str) -> tuple[Word, ...]:
    """Words of a cell: a list, or JSON of one, of {text, start_s, end_s} in seconds of the file.

    A word may have a speaker.
    """
    try:
        listed = json.loads(value) if isinstance(value, str) else value
        return tuple(_word(one) for one in listed)
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{where}: words is {value!r:.60}, expected a list of {{text, start_s, end_s}}"
        ) from None


def _word(one: Mapping[str, Any]) -> Word:
    text = one["text"] if "text" in one else one["word"]
    start_s = float(one["start_s"] if "start_s" in one else one["start"])
    end_s = one.get("end_s", one.get("end"))
    speaker = one.get("speaker")
    return Word(
        str(text),
        start_s,
        start_s if end_s is None else float(end_s),
        1.0,
        None if speaker is None else str(speaker),
    )


def _speaker_spans(value: Any, where: str) -> tuple[SpeakerSpan, ...]:
    """A list, or JSON of one, of {speaker, start_s, end_s} in seconds of the file."""
    try:
        listed = json.loads(value) if isinstance(value, str) else value
        return tuple(
            SpeakerSpan(str(one["speaker"]), float(one["start_s"]), float(one["end_s"]))
            for one in listed
        )
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{where}: speaker_spans is {value!r:.60}, expected a list of "
            "{speaker, start_s, end_s}"
        ) from None


def _value(name: str, value: Any, where: str) -> Any:
    if name in CELLS:
        return CELLS[name](value, where)
    kind: Callable[[Any], Any] = (
        _seconds if name in SECONDS else _whole if name in WHOLE_NUMBERS else str
    )
    try:
        typed = kind(value)
    except (TypeError, ValueError):
        typed = math.nan
    if isinstance(typed, float) and not math.isfinite(typed):
        expected = "seconds or hh:mm:ss" if name in SECONDS else "a number"
        raise ValueError(f"{where}: {name} is {value!r}, expected {expected}") from None
    return typed


def _seconds(value: Any) -> float:
    """Seconds, or mm:ss or hh:mm:ss, with a point or a comma before the fraction."""
    if not isinstance(value, str):
        return float(value)
    *larger, last_s = value.strip().replace(",", ".").split(":")
    if len(larger) > 2 or not all(unit.isdigit() for unit in larger):
        raise ValueError
    if larger and not 0 <= float(last_s) < 60:
        raise ValueError
    larger_s = sum(int(unit) * 60**power for power, unit in enumerate(reversed(larger), start=1))
    return larger_s + float(last_s)


def _cuts(value: Any, where: str) -> tuple[float, ...]:
    """Times, as a list or as text with spaces between."""
    try:
        cuts_s = tuple(map(_seconds, value.split() if isinstance(value, str) else value))
    except (TypeError, ValueError):
        cuts_s = (math.nan,)
    if not all(map(math.isfinite, cuts_s)):
        raise ValueError(f"{where}: cuts_s is {value!r}, expected seconds, such as 61.5 120")
    return cuts_s


def _terms(value: Any, where: str) -> tuple[str, ...]:
    """A list, or text with semicolons between; each term once."""
    listed = value.split(";") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise ValueError(f"{where}: terms is {value!r:.60}, expected a list, or text such as a; b")
    return tuple(dict.fromkeys(one.strip() for one in listed if one.strip()))


def _whole(value: Any) -> int:
    number = float(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _csv_rows(file: BinaryIO) -> Iterator[Any]:
    with _text(file) as lines:
        header = lines.readline()
        # Spreadsheets of countries with a decimal comma write semicolons; others may write tabs.
        mark = max(",;\t", key=header.count)
        first_rows = itertools.chain([header], lines)
        # Without `strict` a quote that is not closed takes the rest of the file for one cell.
        rows = csv.DictReader(first_rows, restkey="(too many)", delimiter=mark, strict=True)
        _check_columns(rows.fieldnames or ())
        try:
            yield from rows
        except csv.Error as error:
            raise csv.Error(f"the row at line {rows.line_num + 1}: {error}") from None


def _check_columns(names: Sequence[str]) -> None:
    """Of two columns of one name the first would be ignored."""
    for name in names:
        if name in _OUR_NAME and names.count(name) > 1:
            raise csv.Error(f"there are {names.count(name)} columns {name}")


def _json_rows(file: BinaryIO) -> Iterator[Any]:
    with _text(file) as lines:
        for line in filter(str.strip, lines):
            try:
                yield json.loads(line)
            except ValueError:
                yield line.strip()


@contextmanager
def _text(file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """The file as text; the caller still has to close it."""
    lines = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        yield lines
    finally:
        with suppress(ValueError):  # closed already
            lines.detach()


def _parquet_rows(file: BinaryIO) -> Iterator[Any]:
    parquet = open_table(file)
    known = [
        field.name
        for field in parquet.schema_arrow
        if field.name in _OUR_NAME or field.name in LISTS or _is_small(field.type)
    ]
    for batch in parquet.iter_batches(columns=known, use_threads=False):
        yield from batch.to_pylist()


def _is_small(kind: pa.DataType) -> bool:
    """Not sound or other bytes, which some manifests hold beside its description."""
    return not (
        pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )


_OUR_NAME = {other: name for name, others in COLUMNS.items() for other in others}

CELLS: dict[str, Callable[[Any, str], Any]] = {
    "words": timed_words,
    "speaker_spans": _speaker_spans,
    "cuts_s": _cuts,
    "terms": _terms,
}

READERS: dict[str, Callable[[BinaryIO], Iterator[Any]]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".parquet": _parquet_rows,
}
