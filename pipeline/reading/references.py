"""Reference transcripts by recording: from a manifest, or from a data set on the Hugging Face hub.

Of a data set only the tables are read, never the audio. huggingface_hub finds the credentials
itself; they never pass through here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import HfApi, errors, hf_hub_download

from nightscribe.reading.speaker_references import SpokenReference, spoken_reference
from nightscribe.records import Recording, Word
from nightscribe.rendering.annotations import one_token
from nightscribe.storage.locations import S3Config
from nightscribe.storage.manifests import is_manifest, named_rows, timed_words
from nightscribe.storage.sources import manifest_rows

HUB = "hf://"
_DATASET = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
TEXT_COLUMNS = ("text", "transcription", "transcript", "sentence", "normalized_text", "reference")
NAME_COLUMNS = ("file_name", "path", "file", "audio", "id")
TABLE_SUFFIXES = (".parquet", ".jsonl", ".csv")

Key = tuple[str, float, float | None, int | None]
FileKey = tuple[str, float, float | None]


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference text of one file, and its words with times if they are known."""

    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class References:
    """References by file, span and channel; those of a data set by file name without suffix."""

    by_key: Mapping[Key, Reference] = field(default_factory=dict)
    by_name: Mapping[str, Reference] = field(default_factory=dict)
    num_without_text: int = 0  # rows that have neither text nor words
    spoken_by_key: Mapping[Key, SpokenReference] = field(default_factory=dict)
    spoken_by_name: Mapping[str, SpokenReference] = field(default_factory=dict)

    @property
    def names_speakers(self) -> bool:
        return bool(self.spoken_by_key or self.spoken_by_name)

    def spoken_in(self, recording: Recording) -> SpokenReference | None:
        """Who speaks in this file, all its channels together."""
        names = (PurePosixPath(recording.path).stem, recording.uri)
        # Fields of RTTM hold no spaces.
        written = (*names, *map(one_token, names))
        by_name = (self.spoken_by_name[name] for name in written if name in self.spoken_by_name)
        return next(by_name, self.spoken_by_key.get(_key(recording, None)))

    def not_used(self, used: Iterable[Reference]) -> list[str]:
        """The names of files whose reference is none of these."""
        used_ids = {id(reference) for reference in used}
        names = [(key[0], one) for key, one in self.by_key.items()] + [*self.by_name.items()]
        return [name for name, reference in names if id(reference) not in used_ids]

    def of_channel(self, recording: Recording) -> Reference | None:
        """The reference of this channel alone."""
        if recording.channel is None:
            return None
        return self.by_key.get(_key(recording, recording.channel))

    def of_file(self, recording: Recording) -> Reference | None:
        """The reference of all channels together, or else the text of the run's own manifest."""
        found = self.by_key.get(_key(recording, None))
        found = found or self.by_name.get(PurePosixPath(recording.path).stem)
        if found is None and recording.text is not None:
            return Reference(recording.text)
        return found

    def num_channels(self) -> dict[FileKey, int]:
        """The number of channels of each file, or span of one, that has references by channel."""
        found: dict[FileKey, int] = {}
        for uri, start_s, end_s, channel in self.by_key:
            if channel is not None:
                key = uri, start_s, end_s
                found[key] = max(found.get(key, 0), channel + 1)
        return found


def read_references(source: str | None, split: str | None, s3: S3Config) -> References:
    """Those of a manifest, or of ORGANISATION/NAME on the hub; none if `source` is None."""
    if source is None:
        return References()
    if is_manifest(source) and not source.startswith(HUB):
        if split is not None:
            raise ValueError(f"split={split} is for data sets on the hub, {source} is a manifest")
        return _of_manifest(source, manifest_rows(source, s3))
    name = source.removeprefix(HUB).removeprefix("datasets/")
    if not _DATASET.fullmatch(name) or Path(source).exists():
        raise ValueError(
            f"{source} is neither a manifest (.csv, .jsonl, .parquet) nor a data set on the hub "
            "(ORGANISATION/NAME or ORGANISATION/NAME@REVISION)"
        )
    columns = (*TEXT_COLUMNS, *NAME_COLUMNS, "words")
    return References(by_name=_by_name(name, dataset_rows(name, split, columns)))


def file_key(recording: Recording) -> FileKey:
    return recording.uri, recording.start_s, recording.end_s


def _key(recording: Recording, channel: int | None) -> Key:
    return *file_key(recording), channel


def _of_manifest(source: str, rows: Iterable[Mapping[str, Any]]) -> References:
    by_key: dict[Key, Reference] = {}
    spoken_by_key: dict[Key, SpokenReference] = {}
    num_without_text = 0
    for row in rows:
        key = row["uri"], row.get("start_s", 0.0), row.get("end_s"), row.get("channel")
        words = row.get("words", ())
        spoken = spoken_reference(row, words)
        if spoken is not None:
            spoken_by_key[key] = spoken
        if "text" in row or words:
            by_key[key] = Reference(row.get("text") or _joined(words), words)
        elif spoken is None:
            num_without_text += 1
    if num_without_text and not by_key and not spoken_by_key:
        raise ValueError(
            f"{source}: no row has a reference; expected a column text, words or speaker_spans"
        )
    return References(by_key=by_key, num_without_text=num_without_text, spoken_by_key=spoken_by_key)


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
    raise ValueError(f"{where}: has no file name; expected one of {', '.join(NAME_COLUMNS)}")


def _joined(words: Iterable[Word]) -> str:
    return " ".join(word.text for word in words)


def dataset_rows(
    location: str, split: str | None, columns: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """The rows of all tables of NAME or NAME@REVISION, or of those whose path names the split."""
    name, _, revision = location.partition("@")
    tables = [file for file in _listed(name, revision) if _is_table(file, split)]
    if not tables:
        of_split = f" of split {split}" if split else ""
        raise ValueError(f"data set {name} has no table{of_split} in {', '.join(TABLE_SUFFIXES)}")
    for table in tables:
        yield from _read(_fetched(name, revision, table), columns)


def _listed(name: str, revision: str) -> list[str]:
    try:
        return HfApi().list_repo_files(name, repo_type="dataset", revision=revision or None)
    except Exception as error:
        raise _fetch_error(name, error) from None


def _fetched(name: str, revision: str, table: str) -> Path:
    try:
        return Path(hf_hub_download(name, table, repo_type="dataset", revision=revision or None))
    except Exception as error:
        raise _fetch_error(f"{name}/{table}", error) from None


def _fetch_error(what: str, error: Exception) -> ValueError:
    """Any error of disk, network or HTTP library, by its type: its text may be very long."""
    if isinstance(error, errors.GatedRepoError):
        return ValueError(f"data set {what} is gated: accept its terms on the hub, set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"data set {what} has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(f"the hub has no data set {what}, or HF_TOKEN may not read it")
    return ValueError(f"data set {what} cannot be fetched: {type(error).__name__}")


def _is_table(file: str, split: str | None) -> bool:
    path = PurePosixPath(file)
    if path.suffix not in TABLE_SUFFIXES:
        return False
    return split is None or split in path.parts or path.name.startswith((f"{split}-", f"{split}."))


def _read(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, columns)
        return
    with path.open("rb") as file:
        yield from (row for _, row in named_rows(path.name, file))


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(path) as parquet:
        # A column with the audio is a struct; only its other fields, such as the path, are read.
        leaves = [column.path for column in map(parquet.schema.column, range(_num_leaves(parquet)))]
        selected = [
            leaf for leaf in leaves if leaf.split(".")[0] in columns and "bytes" not in leaf
        ]
        for batch in parquet.iter_batches(columns=selected):
            yield from batch.to_pylist()


def _num_leaves(parquet: pq.ParquetFile) -> int:
    return len(parquet.schema)
