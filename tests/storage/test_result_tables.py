"""The tables people read."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from nightscribe.records import Finding, Inspection
from nightscribe.stitching import stitch
from nightscribe.storage import result_tables
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.schema import FAILURES_SCHEMA, TRANSCRIPTS_SCHEMA
from nightscribe.storage.tables import open_table, read_rows
from tests.storage.records import failure, heard_all, recording, shards

INSPECTION = Inspection(
    speech_s=8.5,
    uncovered_speech_s=0.5,
    num_stalls=1,
    num_looped_words=0,
    num_silent_words=2,
    num_simultaneous_words=3,
    detected_language="is",
    is_language_mismatched=True,
    findings=(Finding("stalls", 1.0, 9.5, "no words"),),
)


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def table_of(store, key):
    return read_rows(store, key)


def test_a_transcript_is_one_row_with_its_words(store):
    whole = recording(language="is", text="what is said")
    transcript = replace(stitch(heard_all(whole, 2)), inspection=INSPECTION, reasons=("stalled",))
    key = result_tables.publish_transcripts(store, [transcript])
    (row,) = table_of(store, key).to_pylist()
    assert row["recording_id"] == whole.recording_id
    assert (row["uri"], row["channel"], row["language"]) == (whole.uri, None, "is")
    assert (row["reference"], row["text"]) == ("what is said", "word0 end word1 end")
    assert row["words"][2] == {
        "text": "word1",
        "start_s": 11.0,
        "end_s": 11.5,
        "confidence": 0.5,
        "speaker": None,
    }
    assert (row["duration_s"], row["shards"], row["status"]) == (20.0, 2, "ok")
    assert (row["model"], row["model_revision"]) == ("tiny", "r1")
    assert row["speech"] == [{"start_s": 0.5, "end_s": 9.0}, {"start_s": 10.5, "end_s": 19.0}]
    assert row["turn_ends_s"] == [9.5, 19.5]
    assert (row["num_redecoded"], row["reasons"]) == (2, ["stalled"])
    assert (row["speech_s"], row["num_silent_words"], row["detected_language"]) == (8.5, 2, "is")
    assert row["findings"] == [
        {"guard": "stalls", "start_s": 1.0, "end_s": 9.5, "detail": "no words"}
    ]
    assert None not in (row[name] for name in INSPECTION.__slots__)


def test_a_failure_is_one_row_with_its_reason(store):
    whole = recording(channel=1)
    lost = shards(whole, 3)[1]
    key = result_tables.publish_failures(store, [failure(whole, lost, attempts=3), failure(whole)])
    of_all, of_one = table_of(store, key).to_pylist()
    assert (of_all["shard"], of_all["failed_start_s"], of_all["attempts"]) == (None, None, 1)
    assert (of_one["shard"], of_one["failed_start_s"], of_one["failed_end_s"]) == (1, 10.0, 20.0)
    assert (of_one["stage"], of_one["reason"], of_one["attempts"]) == ("decode", "no_audio", 3)


@pytest.mark.parametrize("schema", [TRANSCRIPTS_SCHEMA, FAILURES_SCHEMA])
def test_every_column_has_a_description(schema):
    assert all(field.metadata[b"description"] for field in schema)


def test_files_carry_the_version_of_the_schema_and_the_meaning_of_their_columns(store):
    key = result_tables.publish_transcripts(store, [stitch(heard_all(recording(), 1))])
    with store.open(key) as file:
        schema = pq.read_schema(file)
    assert schema.metadata[b"nightscribe.schema"] == b"transcripts/2"
    assert schema.field("text").metadata[b"description"] == b"the words, joined by spaces"


def test_rows_are_sorted_compressed_and_the_same_bytes_in_any_order(store):
    transcripts = [stitch(heard_all(recording(f"{n}"), 1)) for n in range(20)]
    key = result_tables.publish_transcripts(store, transcripts)
    before = store.read(key)
    assert result_tables.publish_transcripts(store, transcripts[::-1]) == key
    assert store.read(key) == before
    with store.open(key) as file:
        parquet = open_table(file)
        ids = parquet.read(["recording_id"], use_threads=False)["recording_id"].to_pylist()
        column = parquet.metadata.row_group(0).column(0)
        assert parquet.metadata.row_group(0).sorting_columns == (pq.SortingColumn(0),)
    assert ids == sorted(ids)
    assert column.compression == "ZSTD"


def test_the_columns_are_these_and_change_only_with_the_version():
    assert " ".join(TRANSCRIPTS_SCHEMA.names) == (
        "recording_id uri size_bytes version channel num_channels start_s end_s expected_s "
        "language domain reference cuts_s prompt prompt_audio terms num_speakers extra revision "
        "duration_s status reasons text words speech turn_ends_s speakers speaker_spans speech_s "
        "uncovered_speech_s num_stalls num_redecoded num_looped_words num_silent_words "
        "num_simultaneous_words detected_language is_language_mismatched findings shards "
        "duplicate_of model model_revision"
    )
    assert " ".join(FAILURES_SCHEMA.names) == (
        "recording_id uri size_bytes version channel num_channels start_s end_s expected_s "
        "language domain reference cuts_s prompt prompt_audio terms num_speakers extra revision "
        "shard failed_start_s failed_end_s stage reason detail attempts duplicate_of"
    )


def test_what_readers_can_see_is_read_back(store):
    left, right = recording().split(2)
    result_tables.publish_transcripts(store, [stitch(heard_all(left, 1))])
    result_tables.publish_transcripts(store, [stitch(heard_all(recording("b"), 1))])
    result_tables.publish_failures(store, [failure(right, shards(right, 2)[1])])
    seen = {
        (row.recording_id, row.num_channels) for row in result_tables.published_transcripts(store)
    }
    assert seen == {(left.recording_id, 2), (recording("b").recording_id, None)}
    (failed,) = result_tables.published_failures(store)
    assert (failed.recording_id, failed.failed_shard) == (right.recording_id, 1)


def test_transcripts_come_back_as_they_were_published(store):
    guarded = replace(stitch(heard_all(recording(), 2)), inspection=INSPECTION, reasons=("why",))
    plain = replace(
        stitch(heard_all(recording(uri="b.wav", channel=1, num_channels=2), 1)), duplicate_of="x"
    )
    result_tables.publish_transcripts(store, [guarded])
    result_tables.publish_transcripts(store, [plain])
    read = {one.recording.uri: one for one in result_tables.read_transcripts(store)}
    assert read == {guarded.recording.uri: guarded, "b.wav": plain}


def test_failures_come_back_without_their_shards(store):
    whole, broken = failure(recording()), failure(recording(), shards(recording(), 2)[1])
    result_tables.publish_failures(store, [whole, broken])
    assert list(result_tables.read_failures(store)) == [whole, replace(broken, shard=None)]


def test_transcripts_are_found_by_id_and_by_part_of_a_name(store):
    for name in ("night.wav", "day.wav", "a.b[c.wav"):
        result_tables.publish_transcripts(store, [stitch(heard_all(recording(uri=name), 1))])
    (night,) = result_tables.find_transcripts(store, "night")
    assert night.recording.uri == "night.wav"
    assert result_tables.find_transcripts(store, night.recording.recording_id) == [night]
    assert len(result_tables.find_transcripts(store, ".wav")) == 3
    assert len(result_tables.find_transcripts(store, "b[c")) == 1
    assert result_tables.find_transcripts(store, "dawn") == []


def test_a_file_that_goes_after_the_listing_is_told_from_one_that_never_was(store, monkeypatch):
    result_tables.publish_transcripts(store, [stitch(heard_all(recording(), 2))])
    listed = list(store.entries("transcripts/"))
    store.delete(listed[0].key)
    monkeypatch.setattr(store, "entries", lambda prefix: iter(listed))
    with pytest.raises(result_tables.ReplacedError, match=r"\.parquet was replaced .* again"):
        list(result_tables.read_transcripts(store))
