from dataclasses import replace

import pytest

from nightscribe.records import Failure, Recording, Shard, Word

RECORDING = Recording(uri="s3://archive/a.mp3", size_bytes=10, version="etag")


def test_a_word_cannot_end_before_it_starts():
    with pytest.raises(ValueError, match=r"'so' spans 2\.0\.\.1\.0 s"):
        Word("so", 2.0, 1.0, 0.9)


@pytest.mark.parametrize(
    "change", [{"uri": "s3://archive/b.mp3"}, {"version": "new"}, {"start_s": 1.0}, {"end_s": 9.0}]
)
def test_another_content_has_another_id(change):
    assert replace(RECORDING, **change).recording_id != RECORDING.recording_id


@pytest.mark.parametrize("change", [{"language": "is"}, {"domain": "x"}, {"text": "hello"}])
def test_what_we_know_of_a_recording_does_not_change_its_id(change):
    assert replace(RECORDING, **change).recording_id == RECORDING.recording_id


def test_the_channels_of_a_file_have_ids_of_their_own_and_one_source():
    left, right = RECORDING.split(2)
    assert left.recording_id != right.recording_id
    assert {left.source_id, right.source_id} == {RECORDING.recording_id}


@pytest.mark.parametrize("span", [{"start_s": 5.0, "end_s": 5.0}, {"start_s": -1.0}])
def test_a_recording_is_never_an_empty_span(span):
    with pytest.raises(ValueError, match="expected 0 <= start < end"):
        replace(RECORDING, **span)


def test_a_shard_transcribes_all_that_it_owns():
    with pytest.raises(ValueError, match="has unordered bounds"):
        Shard(
            recording=RECORDING, index=1, sample_rate_hz=8, start_sample=4, end_sample=8,
            owned_start_sample=3, owned_end_sample=8, is_last=True,
        )  # fmt: skip


def test_a_reason_is_a_code():
    with pytest.raises(ValueError, match="a reason is a code"):
        Failure(recording=RECORDING, stage="fetch", reason="Not found!", detail="")
