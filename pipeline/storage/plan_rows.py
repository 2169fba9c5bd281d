"""Rows of a stored plan by their position: what a worker needs of a plan of millions."""

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from nightscribe.records import PlannedRecording
from nightscribe.storage.rows import planned_of
from nightscribe.storage.store import Store
from nightscribe.storage.tables import open_table


class PlanRows:
    """One file of a plan; the last row group that was read stays in memory."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        with store.open(key) as file:
            self._metadata = open_table(file).metadata
        groups = range(self._metadata.num_row_groups)
        sizes = [self._metadata.row_group(group).num_rows for group in groups]
        self._ends = list(accumulate(sizes))
        self._group = -1
        self._rows = pa.table({})

    def read(self, rows: Iterable[int]) -> Iterator[PlannedRecording]:
        """The recordings in these rows of the file, in the given order."""
        for row in rows:
            group = bisect_right(self._ends, row)
            if group != self._group:
                self._rows, self._group = self._read_group(group), group
            place = row - (self._ends[group - 1] if group else 0)
            yield planned_of(self._rows.slice(place, 1).to_pylist()[0])

    def _read_group(self, group: int) -> pa.Table:
        """With one request: the columns of a row group lie beside each other."""
        start, end = _span(self._metadata.row_group(group))
        with self._store.open(self._key) as file:
            file.seek(start)
            window = _Window(file.read(end - start), start)
        table = pq.ParquetFile(window, metadata=self._metadata, pre_buffer=False)
        return table.read_row_group(group, use_threads=False)


def _span(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Where the pages of a row group lie in the file."""
    columns = [group.column(number) for number in range(group.num_columns)]
    starts = [
        min(one.data_page_offset, one.dictionary_page_offset or one.data_page_offset)
        for one in columns
    ]
    ends = [start + one.total_compressed_size for start, one in zip(starts, columns, strict=True)]
    return min(starts), max(ends)


class _Window(io.BytesIO):
    """A part of a file that is read by its places in the whole file."""

    def __init__(self, data: bytes, start: int) -> None:
        super().__init__(data)
        self._start = start

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        offset = self._start if whence == io.SEEK_SET else 0
        return super().seek(place - offset, whence) + self._start

    def tell(self) -> int:
        return super().tell() + self._start
