import io
import threading

import pyarrow as pa
import pytest

from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.tables import open_table, parquet_bytes, read_rows, read_table

TABLE = pa.table({"recording_id": ["a", "b"], "uri": ["/a", "/b"], "words": [[1, 2], []]})


class WatchedFile(io.BytesIO):
    """Remembers which threads read it."""

    def __init__(self, data):
        super().__init__(data)
        self.readers = set()

    def read(self, *num_bytes):
        self.readers.add(threading.get_ident())
        return super().read(*num_bytes)


@pytest.mark.parametrize("columns", [None, ["uri"]])
def test_no_thread_but_the_readers_own_touches_a_file(columns):
    file = WatchedFile(parquet_bytes(TABLE))
    assert read_table(file, columns) == TABLE.select(columns or TABLE.column_names)
    assert file.readers == {threading.get_ident()}


def test_nor_one_that_is_read_in_pieces():
    file = WatchedFile(parquet_bytes(TABLE))
    pieces = open_table(file).iter_batches(batch_size=1, use_threads=False)
    assert pa.Table.from_batches(pieces) == TABLE
    assert file.readers == {threading.get_ident()}


@pytest.mark.parametrize("columns", [None, ["recording_id", "uri"]])
def test_what_was_written_is_read(tmp_path, columns):
    store = open_store(str(tmp_path), S3Config())
    store.write("rows.parquet", parquet_bytes(TABLE))
    assert read_rows(store, "rows.parquet", columns) == TABLE.select(columns or TABLE.column_names)
