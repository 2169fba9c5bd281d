"""Rows of a stored plan by their position, in few requests."""

import pytest

from nightscribe.planning import PlanningConfig, plan
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.plan_rows import PlanRows
from nightscribe.storage.rows import planned_of
from nightscribe.storage.run import begin, index_plan, write_plan
from nightscribe.storage.store import Store
from nightscribe.storage.tables import read_rows
from tests.storage.records import recording

KEY = "plan.parquet"


@pytest.fixture
def plan_path(tmp_path):
    recordings = [recording(f"{n}", size_bytes=n, cuts_s=(1.0, n + 2.0)) for n in range(25)]
    copies = [recording(f"copy-{n}", version=f"v-{n}") for n in range(3)]
    path = tmp_path / "plan.parquet"
    some = [*recordings[:10], *copies, *recordings[10:]]
    write_plan(plan(some, lambda one: one.version, PlanningConfig(window_recordings=7)), path)
    return path


def stored(store, plan_path):
    """The index of a plan that a run has stored."""
    begin(store, plan_path, {})
    return index_plan(plan_path)


def test_any_row_is_read_as_it_was_planned(plan_path, folder):
    store = open_store(folder, S3Config())
    store.upload(plan_path, KEY)  # as it was written, with a group of rows for each window
    right = [planned_of(row) for row in read_rows(store, KEY).to_pylist()]
    assert list(PlanRows(store, KEY).read(range(len(right)))) == right
    some = [27, 0, 6, 7, 8, 13]
    assert list(PlanRows(store, KEY).read(some)) == [right[row] for row in some]


def test_the_index_names_the_rows_of_all_that_is_no_copy(plan_path, folder):
    store = open_store(folder, S3Config())
    index = stored(store, plan_path)
    found = PlanRows(store, index.keys[0])
    for batch in index.batches:
        for row in batch.to_pylist():
            (read,) = found.read([row["row"]])
            assert read.recording.recording_id == row["recording_id"]
            assert read.duplicate_of is None
    assert sum(map(len, index.batches)) == 25


def test_a_group_of_rows_is_one_read(plan_path, tmp_path):
    store = open_store(str(tmp_path / "store"), S3Config())
    store.upload(plan_path, KEY)
    counting = CountingStore(store)
    rows = PlanRows(counting, KEY)
    counting.num_reads = 0
    list(rows.read(range(7)))
    assert counting.num_reads == 1
    list(rows.read([3, 2, 6]))
    assert counting.num_reads == 1
    list(rows.read([7]))
    assert counting.num_reads == 2


class CountingStore:
    """Counts the reads of the files that it opens."""

    def __init__(self, store: Store) -> None:
        self._store, self.num_reads = store, 0

    def open(self, key):
        file = self._store.open(key)
        read = file.read

        def counted(*size):
            self.num_reads += 1
            return read(*size)

        return _Reading(file, counted)


class _Reading:
    def __init__(self, file, read):
        self._file, self.read = file, read

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()
