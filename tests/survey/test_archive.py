import pytest

from nightscribe.records import Recording
from nightscribe.survey.archive import Looked, Shape, survey
from nightscribe.survey.headers import Header


def looked(uri, duration_s, codec="mp3", **span):
    recording = Recording(uri=uri, size_bytes=100, version="1", **span)
    return Looked(recording, Header(codec, 44_100, 2, duration_s))


def test_hours_add_up_by_every_kind():
    broken = Looked(Recording(uri="/a/x.mp3", size_bytes=7, version="1"), None, "no sound")
    found = [looked("/a/1.mp3", 3600.0), looked("/a/2.flac", 1800.0, "flac"), broken]
    shape = Shape(num_shards=lambda duration_s: round(duration_s / 600))
    archive = survey([*found, looked("/b/3.mp3", 900.0)], 2, shape)
    assert archive.duration_s == archive.heard_s == 6300.0
    assert archive.seconds_by["codec"] == {"mp3": 4500.0, "flac": 1800.0}
    assert archive.seconds_by["folder"] == {"/a": 5400.0, "/b": 900.0}
    assert archive.num_shards == 6 + 3 + 2
    assert archive.longest_s == 3600.0
    assert (archive.num_recordings, archive.num_duplicates) == (4, 2)
    assert archive.unreadable == [broken]
    assert archive.size_bytes == 307


def test_every_channel_that_is_transcribed_alone_is_heard_by_itself():
    shape = Shape(num_shards=lambda duration_s: 3, splits_channels=True)
    archive = survey([looked("/a.mp3", 100.0), looked("/b.mp3", 10.0, channel=1)], 0, shape)
    assert (archive.duration_s, archive.heard_s, archive.num_shards) == (110.0, 210.0, 9)


@pytest.mark.parametrize(
    ("span", "duration_s"),
    [
        ({}, 100.0),
        ({"start_s": 40.0}, 60.0),
        ({"start_s": 10.0, "end_s": 30.0}, 20.0),
        ({"start_s": 90.0, "end_s": 130.0}, 10.0),
        ({"start_s": 120.0}, 0.0),
    ],
)
def test_a_span_counts_as_far_as_it_lies_in_its_file(span, duration_s):
    assert looked("/a.mp3", 100.0, **span).duration_s == pytest.approx(duration_s)
