import pytest

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.probe import what_ffmpeg_says
from nightscribe.survey import headers
from nightscribe.survey.headers import Header, UnreadableError, parse_header, read_header
from tests.survey.sounds import CODECS, make_sound


class Ranges:
    """Reads of one file, remembered."""

    def __init__(self, path):
        self.data = path.read_bytes()
        self.num_bytes = 0

    def __call__(self, first, num_bytes):
        self.num_bytes += num_bytes
        return self.data[first : first + num_bytes]


def header_of(path):
    ranges = Ranges(path)
    return read_header(path.suffix, len(ranges.data), ranges, ask), ranges


def ask(path):
    return what_ffmpeg_says(path, DecodeConfig())


@pytest.mark.parametrize("suffix", CODECS)
def test_every_kind_of_file_tells_codec_rate_channels_and_length(suffix, tmp_path):
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
        monkeypatch.setattr(headers, name, 98_304)
    monkeypatch.setattr(headers, "LONG_TAIL_BYTES", 131_072)
    path = make_sound(tmp_path / f"a.{suffix}", 120.0, 48_000, options=options)
    header, ranges = header_of(path)
    assert header.duration_s == pytest.approx(120.0, abs=1.0)
    assert ranges.num_bytes < len(ranges.data) / 2


@pytest.mark.parametrize("data", [b"", b"hello" * 1000, b"\0" * 100_000])
def test_a_file_without_sound_is_unreadable_and_says_why(data, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    with pytest.raises(UnreadableError) as told:
        header_of(path)
    assert str(tmp_path) not in str(told.value)
    assert str(told.value)


def test_layouts_that_ffmpeg_only_counts():
    said = "Duration: 01:02:03.50, start\n Stream #0:0(eng): Audio: flac, 8000 Hz, 12 channels, s16"
    assert parse_header(said) == Header("flac", 8000, 12, 3723.5)
