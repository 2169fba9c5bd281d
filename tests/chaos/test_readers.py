"""The reader of the storms: what it complains of."""

import time

import pytest

from nightscribe.stitching import stitch
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_transcripts
from tests.chaos.readers import Reader, content_of, text_of
from tests.chaos.tables import read
from tests.storage.records import heard_all, recording

GRACE_S = 0.5


@pytest.mark.parametrize(("after_s", "is_too_soon"), [(0.0, True), (2 * GRACE_S, False)])
def test_a_file_must_stay_for_a_while_beside_the_one_that_replaces_it(
    tmp_path, after_s, is_too_soon
):
    store = open_store(str(tmp_path), S3Config())
    old, new = (stitch(heard_all(recording(revision=number), 2)) for number in (1, 2))
    key = publish_transcripts(store, [old])
    (row,) = read(store, key).to_pylist()
    reader = Reader(store, {content_of(row): text_of(row)}, GRACE_S)
    reader._look()
    publish_transcripts(store, [new])
    reader._look()
    time.sleep(after_s)
    listed = reader._listed()
    store.delete(key)
    reader._listed = lambda: listed
    reader._look()
    assert bool(reader.complaints) == is_too_soon
    assert reader.num_interrupted == 1
