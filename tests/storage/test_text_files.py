"""What people write and no editor saved as UTF-8 is named, whichever command reads it."""

from pathlib import Path

import pytest

from nightscribe.jobs.cast import _names
from nightscribe.reading.speaker_references import _rttm_files
from nightscribe.storage.locations import S3Config
from nightscribe.storage.text_files import read_text
from nightscribe.training.dataset import read_manifest
from nightscribe.training.vocabulary import read_pieces


def rttm(path: Path):
    return list(_rttm_files(str(path), S3Config()))


@pytest.mark.parametrize("read", [read_text, read_manifest, read_pieces, _names, rttm])
def test_a_file_that_is_not_utf_8_is_named(tmp_path, read):
    path = tmp_path / "words.rttm"
    path.write_bytes("voice-1,Åse\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"words\.rttm is not in UTF-8; save it as UTF-8$"):
        read(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n")
    assert read_text(tmp_path / "a.txt") == "one\n"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
