"""Files have the same content id exactly if their bytes are the same."""

from nightscribe.records import Recording
from nightscribe.storage.content_hash import ContentHasher


def test_contents_on_disk_are_the_same_exactly_if_their_bytes_are(tmp_path):
    big = b"a" * 100_000 + b"b" * 100_000
    files = {
        "one": big,
        "same": big,
        "other_middle": big[:90_000] + b"x" + big[90_001:],
        "same_middle": big[:90_000] + b"x" + big[90_001:],
        "other_end": big[:-1] + b"x",
        "short": b"a",
        "empty": b"",
        "also_empty": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    contents = ContentHasher()
    named = {
        name: contents(Recording(uri=str(tmp_path / name), size_bytes=len(data), version=name))
        for name, data in files.items()
    }
    for one in files:
        for other in files:
            assert (named[one] == named[other]) == (files[one] == files[other])


def test_contents_of_one_size_only_are_never_read(tmp_path):
    gone = Recording(uri=str(tmp_path / "gone.mp3"), size_bytes=5, version="1")
    assert ContentHasher()(gone) == gone.uri
