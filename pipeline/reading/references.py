"""What was really said, by recording: from a manifest, or from a data set on the hub."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nightscribe.reading.hub import dataset_rows
from nightscribe.records import Recording, Word
from nightscribe.storage.manifests import is_manifest, timed_words
from nightscribe.storage.opening import S3Config
from nightscribe.storage.sources import manifest_rows

HUB = "hf://"
_DATASET = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
TEXT_COLUMNS = ("text", "transcription", "transcript", "sentence", "normalized_text", "reference")
NAME_COLUMNS = ("file_name", "path", "file", "audio", "id")

Key = tuple[str, float, float | None, int | None]


@dataclass(frozen=True, slots=True)
class Reference:
    """What was really said in one file, and when, where that is known."""

    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class References:
    """References by file, span and channel; those of a data set by the bare name of the file."""

    by_key: Mapping[Key, Reference] = field(default_factory=dict)
    by_name: Mapping[str, Reference] = field(default_factory=dict)

    def of_channel(self, recording: Recording) -> Reference | None:
        """The reference of this one channel alone."""
        if recording.channel is None:
            return None
        return self.by_key.get(_key(recording, recording.channel))

    def of_file(self, recording: Recording) -> Reference | None:
        """The reference of all channels together, or else what the plan knew of it."""
        found = self.by_key.get(_key(recording, None))
        found = found or self.by_name.get(PurePosixPath(recording.uri).stem)
        if found is None and recording.text is not None:
            return Reference(recording.text)
        return found


def read_references(source: str | None, split: str | None, s3: S3Config) -> References:
    """Those of a manifest, or of ORGANISATION/NAME on the hub; none where nothing is named."""
    if source is None:
        return References()
    if is_manifest(source) and not source.startswith(HUB):
        if split is not None:
            raise ValueError(f"split={split} is for data sets on the hub, {source} is a manifest")
        return References(by_key=dict(_of_manifest(manifest_rows(source, s3))))
    name = source.removeprefix(HUB).removeprefix("datasets/")
    if not _DATASET.fullmatch(name) or Path(source).exists():
        raise ValueError(
            f"{source} is neither a manifest (.csv, .jsonl, .parquet) nor a data set on the hub "
            "(ORGANISATION/NAME or ORGANISATION/NAME@REVISION)"
        )
    wanted = (*TEXT_COLUMNS, *NAME_COLUMNS, "words")
    return References(by_name=_by_name(name, dataset_rows(name, split, wanted)))


def _key(recording: Recording, channel: int | None) -> Key:
    return recording.uri, recording.start_s, recording.end_s, channel


def _of_manifest(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Key, Reference]]:
    for row in rows:
        key = row["uri"], row.get("start_s", 0.0), row.get("end_s"), row.get("channel")
        words = row.get("words", ())
        if "text" in row or words:
            yield key, Reference(row.get("text") or _joined(words), words)


def _by_name(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Reference]:
    found: dict[str, Reference] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{name} row {number}"
        file_name, words = _file_name(row, where), row.get("words")
        timed = timed_words(words, where) if words else ()
        text = next((row[column] for column in TEXT_COLUMNS if row.get(column) is not None), None)
        if text is None and not timed:
            raise ValueError(f"{where}: has no text; expected one of {', '.join(TEXT_COLUMNS)}")
        if file_name in found:
            raise ValueError(f"{where}: a second file is named {file_name}; name a split")
        found[file_name] = Reference(text or _joined(timed), timed)
    return found


def _file_name(row: Mapping[str, Any], where: str) -> str:
    for column in NAME_COLUMNS:
        value = row.get(column)
        value = value.get("path") if isinstance(value, Mapping) else value
        if value:
            return PurePosixPath(str(value)).stem
    raise ValueError(f"{where}: names no file; expected one of {', '.join(NAME_COLUMNS)}")


def _joined(words: Iterable[Word]) -> str:
    return " ".join(word.text for word in words)
