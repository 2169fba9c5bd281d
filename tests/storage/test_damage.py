"""A file of a run that is not whole is named in one sentence."""

import pyarrow as pa
import pytest

from nightscribe.reading.run_status import read_word_error_rates
from nightscribe.storage.damage import DamagedError, read_json
from nightscribe.storage.generations import generations
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.nights import read_receipts
from nightscribe.storage.run import published_logs
from nightscribe.storage.tables import parquet_bytes, read_rows

TABLE = parquet_bytes(pa.table({"recording_id": [str(number) for number in range(1000)]}))


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


@pytest.mark.parametrize("data", [b"", b'{"revision": ', b"\xff\xfe", b"\n"])
@pytest.mark.parametrize(
    ("read", "key"),
    [
        (lambda store: read_json(store, "_run/run.json"), "_run/run.json"),
        (lambda store: list(generations(store)), "_run/plan/00001.json"),
        (read_receipts, "_run/nights/00001.json"),
        (published_logs, "_run/logs/index.json"),
    ],
    ids=["settings", "plan", "nights", "logs"],
)
def test_a_document_that_is_not_whole_is_named(store, read, key, data):
    store.write(key, data)
    with pytest.raises(DamagedError) as told:
        read(store)
    assert str(told.value) == f"{store.uri(key)}: the file is damaged, or was copied in part"


@pytest.mark.parametrize("columns", [None, ["recording_id"]])
@pytest.mark.parametrize("data", [b"", TABLE[:100], TABLE[:-100] + b"\0" * 100, TABLE[100:]])
def test_a_table_that_is_not_whole_is_named(store, columns, data):
    store.write("transcripts/a.parquet", data)
    with pytest.raises(DamagedError, match=r"transcripts/a\.parquet: the file is damaged"):
        read_rows(store, "transcripts/a.parquet", columns)


def test_scores_that_are_not_whole_are_named(store):
    store.write("_run/evaluation.parquet", TABLE[:100])
    with pytest.raises(DamagedError, match=r"_run/evaluation\.parquet: the file is damaged"):
        read_word_error_rates(store)
