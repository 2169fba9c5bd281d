"""Rows of a data set on the hub, without its sounds: Parquet, JSON lines or CSV as they lie there.

Credentials are found by huggingface_hub itself and never pass through here.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import HfApi, errors, hf_hub_download

from nightscribe.storage.manifests import named_rows

SUFFIXES = (".parquet", ".jsonl", ".csv")


def dataset_rows(
    location: str, split: str | None, columns: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """The rows of every table of NAME or NAME@REVISION, or of those whose path names the split."""
    name, _, revision = location.partition("@")
    tables = [file for file in _listed(name, revision) if _is_table(file, split)]
    if not tables:
        of_split = f" of split {split}" if split else ""
        raise ValueError(f"data set {name} has no table{of_split} in {', '.join(SUFFIXES)}")
    for table in tables:
        yield from _read(_fetched(name, revision, table), columns)


def _listed(name: str, revision: str) -> list[str]:
    try:
        return HfApi().list_repo_files(name, repo_type="dataset", revision=revision or None)
    except Exception as error:
        raise _refused(name, error) from None


def _fetched(name: str, revision: str, table: str) -> Path:
    try:
        return Path(hf_hub_download(name, table, repo_type="dataset", revision=revision or None))
    except Exception as error:
        raise _refused(f"{name}/{table}", error) from None


def _refused(what: str, error: Exception) -> ValueError:
    """Disks, sockets and the HTTP library fail in ways of their own; their texts may be long."""
    if isinstance(error, errors.GatedRepoError):
        return ValueError(f"data set {what} is gated: accept its terms on the hub, set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"data set {what} has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(f"the hub has no data set {what}, or HF_TOKEN may not read it")
    return ValueError(f"data set {what} cannot be fetched: {type(error).__name__}")


def _is_table(file: str, split: str | None) -> bool:
    path = PurePosixPath(file)
    if path.suffix not in SUFFIXES:
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
        # Of a struct with the sound itself only its name is read.
        leaves = [column.path for column in map(parquet.schema.column, range(_num_leaves(parquet)))]
        wanted = [leaf for leaf in leaves if leaf.split(".")[0] in columns and "bytes" not in leaf]
        for batch in parquet.iter_batches(columns=wanted):
            yield from batch.to_pylist()


def _num_leaves(parquet: pq.ParquetFile) -> int:
    return len(parquet.schema)
