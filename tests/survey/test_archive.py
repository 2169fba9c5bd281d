import pytest

from nightscribe.audio.decode import DecodeConfig, read_header_text
from nightscribe.records import Recording
from nightscribe.survey import archive
from nightscribe.survey.archive import (
    CHANNELS_OF_LAYOUT,
    Header,
    SurveyedRecording,
    SurveyOptions,
    UnreadableError,
    parse_header,
    read_header,
    survey,
)
from tests.survey.sounds import CODECS, make_sound


class Ranges:
    """Reads parts of one file, and counts the bytes."""

    def __init__(self, path):
        self.data = path.read_bytes()
        self.num_bytes = 0

    def __call__(self, first, num_bytes):
        self.num_bytes += num_bytes
        return self.data[first : first + num_bytes]


def header_of(path):
    ranges = Ranges(path)
    return read_header(path.suffix, len(ranges.data), ranges, read_text), ranges


def read_text(path):
    return read_header_text(path, DecodeConfig())


@pytest.mark.parametrize("suffix", CODECS)
def test_codec_rate_channels_and_duration_are_read_from_every_kind_of_file(suffix, tmp_path):
    codec, options = CODECS[suffix]
    rate_hz = 48_000 if codec == "opus" else 44_100
    path = make_sound(tmp_path / f"a.{suffix}", 7.0, rate_hz, channels=2, options=options)
    header, _ = header_of(path)
    assert (header.codec, header.sample_rate_hz, header.num_channels) == (codec, rate_hz, 2)
    assert header.duration_s == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", ()),
        ("mp3", ("-b:a", "320k")),
        ("flac", ()),
        ("opus", ("-b:a", "256k", "-vbr", "off")),
        ("m4a", ("-b:a", "320k")),
    ],
)
def test_only_both_ends_of_a_long_file_are_read(suffix, options, tmp_path, monkeypatch):
    for name in ("HEAD_BYTES", "TAIL_BYTES"):
        monkeypatch.setattr(archive, name, 98_304)
    monkeypatch.setattr(archive, "LONG_TAIL_BYTES", 131_072)
    path = make_sound(tmp_path / f"a.{suffix}", 120.0, 48_000, options=options)
    header, ranges = header_of(path)
    assert header.duration_s == pytest.approx(120.0, abs=1.0)
    assert ranges.num_bytes < len(ranges.data) / 2


@pytest.mark.parametrize("data", [b"", b"hello" * 1000, b"\0" * 100_000])
def test_a_file_without_audio_is_unreadable_with_a_reason(data, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    with pytest.raises(UnreadableError) as caught:
        header_of(path)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value)


def test_a_channel_layout_may_be_a_count():
    text = "Duration: 01:02:03.50, start\n Stream #0:0(eng): Audio: flac, 8000 Hz, 12 channels, s16"
    assert parse_header(text) == Header("flac", 8000, 12, 3723.5)


def test_a_layout_with_a_point_has_as_many_channels_as_it_says():
    for name, num_channels in CHANNELS_OF_LAYOUT.items():
        if "." in name:
            assert sum(map(int, name.split("."))) == num_channels


def surveyed(uri, duration_s, codec="mp3", **span):
    recording = Recording(uri=uri, size_bytes=100, version="1", **span)
    return SurveyedRecording(recording, Header(codec, 44_100, 2, duration_s))


def test_hours_add_up_by_every_kind():
    broken = SurveyedRecording(
        Recording(uri="/a/x.mp3", size_bytes=7, version="1"), None, "no sound"
    )
    found = [surveyed("/a/1.mp3", 3600.0), surveyed("/a/2.flac", 1800.0, "flac"), broken]
    options = SurveyOptions(num_shards_of=lambda duration_s: round(duration_s / 600))
    totals = survey([*found, surveyed("/b/3.mp3", 900.0)], 2, options)
    assert totals.duration_s == totals.transcribed_s == 6300.0
    assert totals.seconds_by["codec"] == {"mp3": 4500.0, "flac": 1800.0}
    assert totals.seconds_by["folder"] == {"/a": 5400.0, "/b": 900.0}
    assert totals.num_shards == 6 + 3 + 2
    assert totals.longest_s == 3600.0
    assert (totals.num_recordings, totals.num_duplicates) == (4, 2)
    assert totals.unreadable == [broken]
    assert totals.size_bytes == 307


def test_every_channel_that_is_transcribed_alone_counts_by_itself():
    options = SurveyOptions(num_shards_of=lambda duration_s: 3, splits_channels=True)
    totals = survey([surveyed("/a.mp3", 100.0), surveyed("/b.mp3", 10.0, channel=1)], 0, options)
    assert (totals.duration_s, totals.transcribed_s, totals.num_shards) == (110.0, 210.0, 9)


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
def test_a_span_counts_as_far_as_it_is_inside_its_file(span, duration_s):
    assert surveyed("/a.mp3", 100.0, **span).duration_s == pytest.approx(duration_s)
