"""What people name as input becomes recordings, over disk and over a real S3 server."""

import json
import logging
import os
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightscribe.records import Recording
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, open_file, open_store
from nightscribe.storage.manifests import read_manifest
from nightscribe.storage.rows import recording_of, recording_row
from nightscribe.storage.scratch import ScratchConfig, fetched
from nightscribe.storage.sources import describe_skipped, recordings
from nightscribe.storage.tables import parquet_bytes

S3 = S3Config()


@pytest.fixture
def store(folder):
    return open_store(folder, S3)


@pytest.fixture
def archive(store):
    for key in ("a.mp3", "b/c.WAV", "b/d/e.opus", "b/notes.txt", "b/._c.wav", "b/[1].flac"):
        store.write(key, key.encode())
    return store


def names(source):
    return {recording.uri.rpartition("/")[2] for recording in recordings(source, S3)}


def test_a_folder_holds_the_recordings_at_any_depth(archive, folder):
    assert names(folder) == {"a.mp3", "c.WAV", "e.opus", "[1].flac"}
    assert names(f"{folder}/b/") == {"c.WAV", "e.opus", "[1].flac"}


def test_what_a_folder_holds_beside_recordings_is_counted_by_suffix(archive, folder):
    for key in ("b/scan.pdf", "b/DICTATION", "b/court.avi", "hearing.m4v", "a.PDF"):
        archive.write(key, b"1")
    skipped = Counter()
    found = {one.uri.rpartition("/")[2] for one in recordings(folder, S3, skipped)}
    assert found >= {"court.avi", "hearing.m4v"}
    assert skipped == {".pdf": 2, ".txt": 1, "without suffix": 1}
    assert describe_skipped(skipped) == "2 .pdf, 1 without suffix, 1 .txt"


def test_a_folder_is_not_the_start_of_another_name(archive, folder):
    archive.write("bb/x.mp3", b"x")
    assert "x.mp3" not in names(f"{folder}/b")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp3", {"a.mp3"}),
        ("b/*", {"c.WAV", "notes.txt", "._c.wav", "[1].flac"}),
        ("**/*.opus", {"e.opus"}),
        ("**/?.*", {"a.mp3", "c.WAV", "e.opus"}),
        ("b/[!a].WAV", {"c.WAV"}),
        ("b/[1].flac", {"[1].flac"}),
    ],
)
def test_a_pattern_names_what_it_matches(archive, folder, pattern, expected):
    assert names(f"{folder}/{pattern}") == expected


def test_a_single_file_may_have_any_name(archive, folder):
    (single,) = recordings(f"{folder}/b/notes.txt", S3)
    entry = archive.stat("b/notes.txt")
    assert single == Recording(
        uri=archive.uri("b/notes.txt"), size_bytes=entry.size_bytes, version=entry.version
    )


@pytest.mark.parametrize("source", ["none.mp3", "none/", "*.ogg", "none/*.mp3"])
def test_an_input_without_recordings_is_an_error(archive, folder, source):
    is_missed = not folder.startswith("s3://") and "*" not in source
    said = "is no such file or folder" if is_missed else "no recordings were found"
    with pytest.raises(ValueError, match=said):
        list(recordings(f"{folder}/{source}", S3))


def test_a_folder_without_recordings_and_a_manifest_without_rows_are_errors(tmp_path):
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(ValueError, match=r"but 1 \.txt; to transcribe them, write input='.*/\*\*'"):
        list(recordings(str(tmp_path), S3))
    (tmp_path / "list.csv").write_text("uri,text\n")
    with pytest.raises(ValueError, match=r"list\.csv: the manifest has no rows"):
        list(recordings(f"{tmp_path}/list.csv", S3))


@pytest.mark.parametrize("name", ["calls [2020]", "who?", "*"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_on_a_disk_may_be_called_like_a_pattern(tmp_path, name, end):
    for folder in (name, "calls 2", "whom"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"in {folder[:4]}.mp3").write_bytes(b"1")
    assert names(f"{tmp_path}/{name}{end}") == {f"in {name[:4]}.mp3"}


ROWS = [
    {"uri": "a.mp3", "start": 1.5, "end": 9, "channel": 1, "language": "is", "domain": "radio"},
    {"uri": "b/c.WAV", "text": "said, \u00fe\u00e1", "duration": 30, "cuts": "4.5 20"},
]


def write_manifest(store, suffix):
    columns = ["uri", "start", "end", "channel", "language", "domain", "text", "duration"]
    columns.append("cuts")
    if suffix == "csv":
        lines = [",".join(columns)]
        lines += [",".join(f'"{row.get(name, "")}"' for name in columns) for row in ROWS]
        data = ("\ufeff" + "\r\n".join(lines)).encode()
    elif suffix == "jsonl":
        data = "\n\n".join(json.dumps(row) for row in ROWS).encode()
    else:
        sink = pa.BufferOutputStream()
        rows = [{name: row.get(name) for name in columns} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue().to_pybytes()
    store.write(f"list.{suffix}", data)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_manifest_names_recordings_and_what_is_known_of_them(archive, folder, suffix):
    write_manifest(archive, suffix)
    first, second = recordings(f"{folder}/list.{suffix}", S3)
    entry = archive.stat("a.mp3")
    assert first == Recording(
        uri=archive.uri("a.mp3"),
        size_bytes=entry.size_bytes,
        version=entry.version,
        start_s=1.5,
        end_s=9.0,
        channel=1,
        language="is",
        domain="radio",
    )
    assert (second.text, second.expected_s, second.channel) == ("said, \u00fe\u00e1", 30.0, None)
    assert (first.cuts_s, second.cuts_s) == ((), (4.5, 20.0))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90.5", 90.5),
        ("90,5", 90.5),
        ("1:30.5", 90.5),
        ("01:01:30,5", 3690.5),
        ("100:00:00", 360_000),
    ],
)
@pytest.mark.parametrize("mark", [";", "\t"])
def test_spreadsheets_may_write_semicolons_and_clock_times(store, folder, written, seconds, mark):
    row = mark.join(["a.mp3", written, "he said, yes"])
    store.write("list.csv", f"uri{mark}start{mark}text\n{row}\n".encode())
    (one,) = recordings(f"{folder}/list.csv", S3)
    assert (one.start_s, one.text) == (seconds, "he said, yes")


def test_cuts_may_be_a_list_and_must_be_seconds(archive, folder):
    archive.write("list.jsonl", b'{"uri": "a.mp3", "cuts_s": [4, 20.5]}')
    (one,) = recordings(f"{folder}/list.jsonl", S3)
    assert one.cuts_s == (4.0, 20.5)
    archive.write("list.jsonl", b'{"uri": "a.mp3", "cuts_s": "noon"}')
    with pytest.raises(ValueError, match=r"row 1: cuts_s is 'noon', expected seconds"):
        list(recordings(f"{folder}/list.jsonl", S3))


def test_a_manifest_may_name_what_does_not_exist(archive, folder):
    archive.write("list.jsonl", b'{"uri": "gone.mp3"}\n{"uri": "a.mp3"}')
    gone, there = recordings(f"{folder}/list.jsonl", S3)
    assert (gone.version, gone.size_bytes) == ("not_found", 0)
    assert there.size_bytes == 5


def test_files_that_do_not_exist_are_not_each_other(archive, folder):
    archive.write("list.jsonl", b'{"uri": "gone.mp3"}\n{"uri": "lost.mp3"}')
    contents = ContentHasher()
    gone, lost = map(contents, recordings(f"{folder}/list.jsonl", S3))
    assert gone != lost


def test_what_a_manifest_knows_is_not_asked_again(store, folder):
    store.write("list.jsonl", b'{"uri": "gone.mp3", "size_bytes": 7, "version": "etag"}')
    (told,) = recordings(f"{folder}/list.jsonl", S3)
    assert (told.size_bytes, told.version) == (7, "etag")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            '{"uri": "a", "start": "soon"}',
            r"row 2: start_s is 'soon', expected seconds or hh:mm:ss",
        ),
        ('{"uri": "a", "start": NaN}', "row 2: start_s is nan, expected seconds"),
        ('{"uri": "a", "channel": 0.5}', r"row 2: channel is 0\.5, expected a number"),
        (
            '{"sound": "a", "x": 1}',
            "row 2: no file is named; expected a column uri or path or audio_filepath or audio "
            "with its name, got sound, x$",
        ),
        ('{"uri": "a", "start": 5, "end": 3}', r"row 2: end \(3\) is not after start \(5\)"),
        ('{"uri": "a", "start": -1}', r"row 2: start \(-1\) is negative"),
        ('{"uri": "a", "start": "1:75"}', "row 2: start_s is '1:75', expected seconds or hh"),
        ("uri: a", "row 2: expected columns with names, got 'uri: a'"),
    ],
)
def test_a_bad_row_is_named(store, folder, line, complaint):
    store.write("list.jsonl", b'{"uri": "a.mp3"}\n' + line.encode())
    with pytest.raises(ValueError, match=complaint):
        list(recordings(f"{folder}/list.jsonl", S3))


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("list.csv", "uri,text\na.mp3,caf\u00e9".encode("latin-1"), "is not in UTF-8"),
        ("list.csv", b"file;text\na.mp3;said", "expected a column uri or .*, got file, text$"),
        ("list.jsonl", b'[{"uri": "a.mp3"}, ' + b" " * 500 + b"]", "row 1: expected columns"),
        (
            "list.csv",
            b'uri,text\na.mp3,x\nb.mp3,"it said\nc.mp3,x\nd.mp3,y\n',
            "the row at line 3: unexpected end of data; a quote is not closed$",
        ),
        ("list.csv", b"uri,text,uri\na.mp3,x,b.mp3", "there are 2 columns uri$"),
        ("list.parquet", b"no table at all", r"cannot be read as \.parquet"),
    ],
)
def test_what_other_programs_wrote_is_named_in_a_short_sentence(
    store, folder, name, data, complaint
):
    store.write(name, data)
    with pytest.raises(ValueError, match=complaint) as told:
        list(recordings(f"{folder}/{name}", S3))
    assert str(told.value).startswith(f"{folder}/{name} ")
    assert len(str(told.value)) < len(folder) + 200


def test_a_cell_may_hold_the_text_of_hours(store, folder):
    said = "so it was " * 40_000
    store.write("list.csv", f"uri,text\na.mp3,{said}".encode())
    (one,) = recordings(f"{folder}/list.csv", S3)
    assert one.text == said


@pytest.mark.parametrize(
    ("row", "end_s"),
    [
        ({"start": 10, "duration": 5}, 15.0),
        ({"offset": 0, "duration": 5}, 5.0),
        ({"start": 0, "duration": 5}, None),
        ({"duration": 5}, None),
        ({"start": 10, "duration": 5, "end": 14}, 14.0),
    ],
)
def test_a_segment_ends_after_its_duration_and_a_file_at_its_end(store, folder, row, end_s):
    store.write("list.jsonl", json.dumps({"uri": "a.wav"} | row).encode())
    (one,) = recordings(f"{folder}/list.jsonl", S3)
    assert (one.end_s, one.expected_s) == (end_s, 5.0)


def test_unknown_columns_are_reported_once(store, caplog):
    store.write("list.csv", b"uri,langage\na.mp3,is\nb.mp3,is\n")
    with store.open("list.csv") as file, caplog.at_level(logging.WARNING):
        assert len(list(read_manifest("list.csv", file))) == 2
    assert [record.message for record in caplog.records] == [
        "list.csv: columns of other names have no effect and are kept in the column extra: langage"
    ]


def test_prompts_and_columns_of_other_names_travel_with_the_recording(store, folder):
    row = {"uri": "a.mp3", "prompt": "Hearing 12.", "prompt_audio": "hello.wav"}
    row = row | {"case": "17-B", "priority": 3}
    store.write("list.jsonl", json.dumps(row).encode())
    (one,) = recordings(f"{folder}/list.jsonl", S3)
    assert one.prompt == "Hearing 12."
    assert one.prompt_audio.endswith("/hello.wav")
    assert one.prompt_audio.startswith(folder)
    assert json.loads(one.extra) == {"case": "17-B", "priority": 3}
    assert recording_of(recording_row(one)) == one


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("list.csv", "uri,terms\na.mp3,Łódź; Nowak ;;Łódź\nb.mp3,\n".encode()),
        (
            "list.jsonl",
            '{"uri": "a.mp3", "terms": ["Łódź", "Nowak"]}\n{"uri": "b.mp3"}'.encode(),
        ),
    ],
)
def test_terms_are_a_list_or_text_with_semicolons(store, folder, name, data):
    store.write(name, data)
    found = list(recordings(f"{folder}/{name}", S3))
    assert [one.terms for one in found] == [("Łódź", "Nowak"), ()]
    assert [recording_of(recording_row(one)) for one in found] == found


def test_terms_that_are_no_list_are_one_sentence(store, folder):
    store.write("list.jsonl", b'{"uri": "a.mp3", "terms": 7}')
    with pytest.raises(ValueError, match=r"row 1: terms is 7, expected a list"):
        list(recordings(f"{folder}/list.jsonl", S3))


def test_columns_of_a_parquet_manifest_are_kept_but_not_its_sound(store, folder):
    table = pa.table({"uri": ["a.mp3"], "case": ["17-B"], "bytes": pa.array([b"x"], pa.binary())})
    store.write("list.parquet", parquet_bytes(table))
    (one,) = recordings(f"{folder}/list.parquet", S3)
    assert json.loads(one.extra) == {"case": "17-B"}


def test_segments_by_offset_and_duration_end_where_the_duration_ends(store):
    row = b'{"audio_filepath": "a.wav", "offset": 10, "duration": 5}'
    store.write("list.jsonl", row)
    with store.open("list.jsonl") as file:
        (typed,) = read_manifest("list.jsonl", file)
    assert typed == {"uri": "a.wav", "start_s": 10.0, "expected_s": 5.0, "end_s": 15.0}


def test_a_name_that_is_not_text_is_still_a_name(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.mp3")).write_bytes(b"1")
    (found,) = recordings(str(tmp_path), S3)
    assert found.uri.endswith("caf%E9.mp3")
    store, key = open_file(found.uri, S3)
    assert store.read(key) == b"1"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("at 9.14\u202fPM.mp3", "at 9.14\u202fPM.mp3"),
        ("two\nlines.mp3", "two\nlines.mp3"),
        (os.fsdecode(b"caf\xe9.mp3"), "caf\\xe9.mp3"),
        ("100%.mp3", "100%.mp3"),
    ],
)
def test_the_path_of_an_odd_name_is_what_people_know(tmp_path, name, path):
    (tmp_path / name).write_bytes(b"1")
    (found,) = recordings(str(tmp_path), S3)
    assert (found.path, found.folder) == (f"{tmp_path}/{path}", str(tmp_path))
    assert found.uri.startswith("file://") == (not name.isprintable() and "\u202f" not in name)
    store, key = open_file(found.uri, S3)
    assert store.read(key) == b"1"


def test_links_that_leave_the_folder_are_planned_and_never_opened(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (folder / "a.wav").write_bytes(b"sound")
    (folder / "near.wav").symlink_to("a.wav")
    (folder / "out.wav").symlink_to("../secret.wav")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / "circle.wav").symlink_to("circle.wav")
    (folder / "out").symlink_to(tmp_path)
    found = {one.uri.rpartition("/")[2]: one for one in recordings(str(folder), S3)}
    assert found.keys() == {"a.wav", "near.wav", "out.wav", "gone.wav", "circle.wav"}
    assert found["near.wav"].version == found["a.wav"].version
    assert {name: found[name].size_bytes for name in ("out.wav", "gone.wav")} == {
        "out.wav": 0,
        "gone.wav": 0,
    }
    with pytest.raises(StorageError, match="out of the folder"):
        fetch(found["out.wav"])
    with pytest.raises(StorageError, match="no such file"):
        fetch(found["gone.wav"])
    (linked,) = recordings(str(folder / "out.wav"), S3)  # who names a link means its target
    assert linked.size_bytes == 6


def fetch(recording):
    with fetched(recording, S3, ScratchConfig()):
        raise AssertionError("it was opened")
