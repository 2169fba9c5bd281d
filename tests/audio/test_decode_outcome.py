import struct

import pytest

from nightscribe.audio.decode_outcome import (
    MAX_PAGE_BYTES,
    OGG_MARK,
    ends_within_page,
    judge,
    wav_duration_s,
)


def page(body):
    """One page; all of its header except the lengths is empty."""
    full, rest = divmod(len(body), 255)
    segments = bytes([255] * full + [rest])
    return OGG_MARK + bytes(22) + bytes([len(segments)]) + segments + body


WHOLE = page(b"head") + page(b"sound" * 500) + page(b"tail" * 100)


@pytest.fixture
def file(tmp_path):
    def written(content):
        path = tmp_path / "a.opus"
        path.write_bytes(content)
        return path

    return written


def test_a_file_is_cut_wherever_its_last_page_is_not_whole(file):
    last = WHOLE.rindex(OGG_MARK)
    for length in range(last + len(OGG_MARK), len(WHOLE)):
        assert ends_within_page(file(WHOLE[:length])), length


def test_whole_pages_are_a_whole_file(file):
    assert not ends_within_page(file(WHOLE))
    assert not ends_within_page(file(WHOLE[: WHOLE.rindex(OGG_MARK)]))
    assert not ends_within_page(file(WHOLE + b"notes that somebody added"))


def test_the_largest_page_is_found_from_its_end(file):
    largest = OGG_MARK + bytes(22) + bytes([255]) + bytes([255] * 255) + bytes(255 * 255)
    assert len(largest) == MAX_PAGE_BYTES
    assert not ends_within_page(file(page(b"head") + largest))
    assert ends_within_page(file(page(b"head") + largest[:-1]))


@pytest.mark.parametrize("content", [b"", b"Ogg", b"RIFF" + WHOLE[:-9]])
def test_other_files_never_count_as_truncated(file, content):
    assert not ends_within_page(file(content))


@pytest.mark.parametrize(
    ("stated_s", "decoded_s", "status"),
    [
        (10.0, 9.6, "ok"),
        (10.0, 9.4, "partial"),
        (1000.0, 985.0, "ok"),
        (1000.0, 975.0, "partial"),
    ],
)
def test_a_header_may_be_half_a_second_off_and_in_long_files_two_percent(
    stated_s, decoded_s, status
):
    outcome = judge(
        decoded_s=decoded_s,
        stated_s=stated_s,
        is_cut_short=False,
        lines=[],
        exit_code=0,
        abort_reason=None,
    )
    assert outcome.status == status
    assert outcome.reason == (None if status == "ok" else "truncated")


def wav(data_bytes, bytes_per_s=16_000, before=b""):
    """The header of a WAV file of 16-bit samples, as far as its data."""
    form = struct.pack("<HHIIHH", 1, 1, bytes_per_s // 2, bytes_per_s, 2, 16)
    chunks = before + b"fmt " + struct.pack("<I", len(form)) + form
    return b"RIFF" + bytes(4) + b"WAVE" + chunks + b"data" + struct.pack("<I", data_bytes)


@pytest.mark.parametrize(
    ("content", "duration_s"),
    [
        (wav(24_000), 1.5),
        (wav(24_000, before=b"LIST" + struct.pack("<I", 3) + b"odd\0"), 1.5),
        (wav(0), None),  # written by a program that streams
        (wav(0xFFFFFFFF), None),
        (wav(24_000, bytes_per_s=0), None),
        (wav(24_000)[:-8], None),
        (b"RIFF" + bytes(4) + b"AVI ", None),
        (b"", None),
    ],
)
def test_the_duration_that_the_header_of_a_wav_file_states(file, content, duration_s):
    assert wav_duration_s(file(content)) == duration_s
