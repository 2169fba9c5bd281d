import io
import json
import os
import sys
from dataclasses import replace

import docx
import pytest
import srt

from nightscribe.reading.export import ExportNames, ExportOptions, conversations, export_files
from nightscribe.rendering.document import RenderingConfig
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_transcripts, published_uris, read_transcripts
from nightscribe.storage.sources import recordings
from tests.reading.runs import call, publish_archive, recording, transcript


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    publish_archive(store)
    return store


def export_options(*formats, **more):
    return ExportOptions(formats=formats, rendering=RenderingConfig(), **more)


def exported(store, *formats, **more):
    names = ExportNames(published_uris(store))
    found = export_files(read_transcripts(store), export_options(*formats, **more), names)
    return {names.relative(one.recording) + one.suffix: one.content.decode() for one in found}


def test_files_are_in_folders_like_those_of_the_audio(store):
    assert sorted(exported(store, "srt")) == [
        "calls/7.srt",
        "talks/one.srt",
        "talks/three.srt",
        "talks/two.srt",
    ]


def test_a_recording_without_words_has_no_empty_subtitles(store):
    assert {name for name in exported(store, "srt", "vtt", "json", "text") if "empty" in name} == {
        "empty.json",
        "empty.txt",
    }


def test_one_odd_name_changes_no_other(tmp_path):
    odd = ["two\nlines.opus", "at 9.14\u202fPM.opus", os.fsdecode(b"caf\xe9.opus")]
    for name in ("plain.opus", *odd):
        (tmp_path / name).write_bytes(name.encode(errors="replace"))
    found = list(recordings(str(tmp_path), S3Config()))
    names = ExportNames(one.uri for one in found)
    assert {names.relative(one) for one in found} == {
        "plain",
        "two\nlines",
        "at 9.14\u202fPM",
        "caf\\xe9",
    }


def test_every_word_of_the_run_is_in_every_export(store):
    files = exported(store, "srt", "json")
    cues = srt.parse(files["talks/two.srt"])
    assert " ".join(cue.content for cue in cues) == "He went by bus"
    assert json.loads(files["talks/three.json"])["text"] == "nobody wrote down what this is"


def document_of(store, path):
    names = ExportNames(published_uris(store))
    found = export_files(read_transcripts(store), export_options("docx"), names)
    (content,) = [one.content for one in found if names.relative(one.recording) == path]
    return [one.text for one in docx.Document(io.BytesIO(content)).paragraphs]


def test_a_document_names_the_recording_its_model_and_what_is_missing(store):
    assert document_of(store, "talks/two") == [
        "two",
        "Recording: /a/talks/two.mp3",
        "Length: 0:00:02",
        "Words: by the model tiny",
        "Note: stall at 0.5-1.5 s: 9.0 s of speech without a word",
        "Transcript",
        "0:00:00\tHe went by bus",
    ]
    assert document_of(store, "calls/7")[-2:] == [
        "0:00:00\tSpeaker 1: Hello. Who is there?",
        "0:00:04\tSpeaker 2: It is me.",
    ]


def test_a_span_says_where_in_the_file_it_is_and_a_correction_whose_words_these_are(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    span = recording("/a/long.wav", start_s=60.0, end_s=90.0)
    spoken = transcript(span.uri, "so it is", start_s=61.0)
    publish_transcripts(store, [replace(spoken, recording=span, model="person")])
    assert document_of(store, "long.60-90")[2:5] == [
        "Length: 0:01:03",
        "From: 0:01:00 of the file",
        "Words: corrected by a person",
    ]


def test_without_the_package_for_documents_nothing_is_written(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "docx", None)
    found = export_files(
        read_transcripts(store),
        export_options("text", "docx"),
        ExportNames(published_uris(store)),
    )
    with pytest.raises(ModuleNotFoundError):
        next(found)


def test_channels_of_one_file_are_its_speakers(store):
    files = exported(store, "text", speakers=("Agent", "Caller"))
    assert files["calls/7.txt"] == "Agent: Hello. Who is there?\n\nCaller: It is me.\n"
    numbered = exported(store, "text")["calls/7.txt"]
    assert numbered.startswith("Speaker 1: Hello.")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_channels_are_grouped_in_any_order(order):
    channels = call()
    (found,) = conversations([channels[index] for index in order])
    assert found == channels


def test_a_channel_whose_neighbour_failed_is_not_lost():
    left, _ = call()
    single = transcript("/a/b.wav", "alone")
    assert list(conversations([left, single])) == [[single], [left]]


def test_files_that_differ_in_their_suffix_alone_keep_it():
    names = ExportNames(["s3://b/x/a.wav", "s3://b/x/a.mp3", "s3://b/x/c.wav", "s3://b/x/a.wav"])
    uris = ("s3://b/x/a.wav", "s3://b/x/a.mp3", "s3://b/x/c.wav")
    assert [names.beside(recording(uri)) for uri in uris] == [
        "s3://b/x/a.wav",
        "s3://b/x/a.mp3",
        "s3://b/x/c",
    ]
    assert names.relative(recording("s3://b/x/c.wav")) == "c"


def test_spans_of_one_file_have_their_own_names():
    names = ExportNames(["/a/long.wav"])
    spans = [
        recording("/a/long.wav", start_s=0.0, end_s=10.0),
        recording("/a/long.wav", start_s=10.5),
    ]
    assert [names.relative(span) for span in spans] == ["long.0-10", "long.10.5-"]


def test_channels_that_a_manifest_lists_one_by_one_have_their_own_names():
    names = ExportNames(["/a/call.wav", "/a/both.wav"])
    asked = [recording("/a/call.wav", channel=channel) for channel in (0, 1)]
    split = [recording("/a/both.wav", channel=channel, num_channels=2) for channel in (0, 1)]
    assert [names.relative(one) for one in asked] == ["call.channel0", "call.channel1"]
    assert {names.relative(one) for one in split} == {"both"}


def test_spans_late_in_a_day_have_their_own_names():
    names = ExportNames(["/a/day.wav"])
    spans = [recording("/a/day.wav", start_s=80_000.21 + n, end_s=80_000.51 + n) for n in (0, 0.01)]
    assert len({names.relative(span) for span in spans}) == 2


def test_an_unknown_format_is_named_before_anything_is_written():
    with pytest.raises(ValueError, match="unknown format 'doc'"):
        export_options("doc")


def test_names_in_a_bucket_never_leave_the_folder_on_a_disk(tmp_path):
    hostile = [
        recording("s3://b/a/../../../etc/cron.wav"),
        recording("s3://b/a/x.wav"),
        recording("s3://b//etc/passwd.wav"),
    ]
    names = ExportNames(one.uri for one in hostile)
    store = open_store(str(tmp_path / "exports"), S3Config())
    for one in hostile:
        store.write(names.relative(one) + ".srt", b"")
    written = [path for path in tmp_path.rglob("*.srt")]
    assert len(written) == 3
    assert all(path.is_relative_to(tmp_path / "exports") for path in written)
