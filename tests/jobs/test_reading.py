"""The commands that read a finished run, as a user types them."""

import json
import re
from dataclasses import replace

import pytest

from nightscribe.records import SpeakerSpan
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_transcripts
from tests.reading.runs import publish_archive, transcript
from tests.survey.sounds import make_sound


@pytest.fixture
def run(tmp_path):
    output = str(tmp_path / "output")
    publish_archive(open_store(output, S3Config()))
    return output


def test_export_writes_the_formats_asked_for(nightscribe, run, tmp_path):
    code, out, _ = nightscribe("export", run, "formats=[srt,json]", f"to={tmp_path}/subtitles")
    assert code == 0
    assert out == f"9 files under {tmp_path}/subtitles\n"
    assert (tmp_path / "subtitles/talks/one.srt").read_text().startswith("1\n00:00:00,000 --> ")
    call = json.loads((tmp_path / "subtitles/calls/7.json").read_text())
    assert call["speakers"] == ["Speaker 1", "Speaker 2"]


def test_export_names_the_subtitles_that_have_to_be_read_fast(nightscribe, tmp_path):
    store = open_store(str(tmp_path / "output"), S3Config())
    fast = "incomprehensibilities " * 6
    publish_transcripts(store, [transcript("/a/fast.mp3", fast), transcript("/a/slow.mp3", "so")])
    _, out, _ = nightscribe("export", f"{tmp_path}/output", "formats=[srt]")
    assert "1 files have subtitles above 17 characters/s:\n  /a/fast.mp3 (.srt): " in out
    assert "slow" not in out


def test_export_puts_subtitles_beside_the_audio(nightscribe, tmp_path):
    store = open_store(str(tmp_path / "output"), S3Config())
    publish_transcripts(store, [transcript(f"{tmp_path}/audio/a.mp3", "well then")])
    code, _, _ = nightscribe("export", f"{tmp_path}/output", "formats=[srt]", "beside_audio=true")
    assert code == 0
    assert "well then" in (tmp_path / "audio/a.srt").read_text()


def test_export_refuses_an_unknown_format(nightscribe, run):
    code, _, err = nightscribe("export", run, "formats=[odt]")
    assert code == 2
    assert "unknown format 'odt'; choose from text, words, json" in err


@pytest.mark.parametrize("words", [["export"], ["show", "x"], ["evaluate"], ["report"]])
def test_a_folder_without_a_run_is_refused(nightscribe, tmp_path, words):
    name, *more = words
    code, _, err = nightscribe(name, str(tmp_path / "none"), *more)
    assert (code, err) == (2, f"nightscribe: {tmp_path}/none: no run has written here\n")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "formats=[]"], "formats is empty; choose from text, words, json"),
        (["report", "max_pages=-1"], "max_pages must be 0 or more, got -1"),
        (["evaluate", "num_worst=-1"], "num_worst must be 0 or more, got -1"),
        (["evaluate", "reference=a.csv", "split=test"], "a.csv is a manifest"),
    ],
)
def test_wrong_values_are_refused(nightscribe, run, words, sentence):
    name, *more = words
    code, out, err = nightscribe(name, run, *more)
    assert (code, out) == (2, "")
    assert sentence in err


@pytest.mark.parametrize("name", ["export", "report"])
def test_a_run_without_finished_recordings_is_refused(nightscribe, tmp_path, name):
    publish_transcripts(open_store(str(tmp_path), S3Config()), [])
    code, _, err = nightscribe(name, str(tmp_path))
    assert code == 2
    assert re.search("there is no transcript yet|no recording is finished yet", err)


def test_show_prints_one_transcript(nightscribe, run):
    code, out, _ = nightscribe("show", run, "talks/two")
    assert code == 0
    assert "He went by bus" in out
    assert "stall at 0.5-1.5 s" in out
    code, out, _ = nightscribe("show", run, "talks/two", "format=text")
    assert out == "He went by bus\n"


def test_show_refuses_an_ambiguous_name(nightscribe, run):
    code, _, err = nightscribe("show", run, "talks")
    assert code == 2
    assert "talks matches 3 recordings: /a/talks/one.mp3" in err
    assert "no transcript in" in nightscribe("show", run, "zebra")[2]


def test_show_prefers_the_whole_name(nightscribe, tmp_path):
    store = open_store(str(tmp_path), S3Config())
    uris = "/a/call-1.wav", "/a/call-1-copy.wav"
    publish_transcripts(store, [transcript(uri, f"this is {uri[-5]}") for uri in uris])
    for name in ("call-1", "call-1.wav", "/a/call-1.wav"):
        code, out, _ = nightscribe("show", str(tmp_path), name)
        assert (code, "this is 1" in out) == (0, True)


def test_show_without_a_name_lists_what_is_not_ok(nightscribe, run):
    code, out, _ = nightscribe("show", run)
    assert code == 0
    assert out.splitlines() == [
        "empty      /a/empty.wav",
        "failed     /a/broken.mp3  decode, corrupt: not a sound",
        "failed     /a/x.mp3  decode, corrupt: not a sound",
        "partial    /a/talks/two.mp3  stall at 0.5-1.5 s: 9.0 s of speech without a word",
        "8 recordings: 4 ok, 2 failed, 1 empty, 1 partial",
    ]
    code, _, err = nightscribe("show", run, "format=srt")
    assert (code, "format=srt needs a recording" in err) == (2, True)


def test_spans_of_one_file_are_told_apart_by_their_ids(nightscribe, tmp_path):
    spans = [transcript("/a.wav", "well", end_s=end_s) for end_s in (5.0, 6.0)]
    publish_transcripts(open_store(str(tmp_path), S3Config()), spans)
    _, _, err = nightscribe("show", str(tmp_path), "a.wav")
    for span in spans:
        assert span.recording.recording_id in err
        assert nightscribe("show", str(tmp_path), span.recording.recording_id)[0] == 0


def test_show_says_why_a_recording_failed(nightscribe, run):
    code, _, err = nightscribe("show", run, "broken")
    assert code == 2
    assert "/a/broken.mp3 failed (decode, corrupt): not a sound" in err


def test_evaluate_prints_and_stores_the_scores(nightscribe, run, tmp_path):
    code, out, _ = nightscribe("evaluate", run)
    assert code == 0
    assert "20.00%" in out
    assert "/a/broken.mp3" in out
    assert "train -> bus" in out
    assert (tmp_path / "output/_run/evaluation.parquet").exists()


def test_evaluate_takes_references_from_a_manifest(nightscribe, run, tmp_path):
    manifest = tmp_path / "references.csv"
    manifest.write_text("uri,text\n/a/talks/three.flac,nobody wrote down what this was\n")
    code, out, _ = nightscribe("evaluate", run, f"reference={manifest}")
    assert code == 0
    assert "is -> was" not in out
    assert "was -> is" in out


def test_references_that_meet_no_recording_are_counted(nightscribe, run, tmp_path):
    rows = ["uri,text", "/a/talks/two.mp3,he went by bus", "/a/absent.wav,so", "/a/other.wav,"]
    (tmp_path / "truth.csv").write_text("\n".join(rows))
    code, out, _ = nightscribe("evaluate", run, f"reference={tmp_path}/truth.csv")
    assert code == 0
    assert "references of files that are not in this run: 1 (/a/absent.wav)" in out
    assert "rows without a text or words: 1" in out


def test_a_manifest_without_references_is_named(nightscribe, run, tmp_path):
    (tmp_path / "truth.csv").write_text("uri\n/a/talks/two.wav\n")
    code, _, err = nightscribe("evaluate", run, f"reference={tmp_path}/truth.csv")
    assert code == 2
    assert (
        "truth.csv: no row has a reference; expected a column text, words or speaker_spans" in err
    )


def test_a_run_without_references_is_refused(nightscribe, tmp_path):
    publish_transcripts(open_store(str(tmp_path), S3Config()), [transcript("/a.wav", "well")])
    code, _, err = nightscribe("evaluate", str(tmp_path))
    assert code == 2
    assert "has no references; give reference=MANIFEST with columns uri and text" in err
    (tmp_path / "other.csv").write_text("uri,text\nb.wav,well\n")
    code, _, err = nightscribe("evaluate", str(tmp_path), f"reference={tmp_path}/other.csv")
    assert code == 2
    assert f"other.csv has no reference for any recording of {tmp_path}, such as /a.wav" in err


def test_report_is_one_file_with_the_available_audio(nightscribe, tmp_path):
    store = open_store(str(tmp_path / "output"), S3Config())
    sound = make_sound(tmp_path / "a.wav", 3.0, 8_000)
    version = store_version(tmp_path, "a.wav")
    heard = transcript(str(sound), "one two three", version=version)
    publish_transcripts(store, [heard, transcript("/gone/b.wav", "four five")])
    history = [[0, 0, 0], [10, 100, 0.9], [20, 300, 0.9]]
    store.write("_run/status.json", json.dumps({"history": history}).encode())
    code, out, _ = nightscribe("report", str(tmp_path / "output"), "title=Night")
    assert code == 0
    assert out.splitlines() == [store.uri("_run/report.html"), store.uri("_run/throughput.svg")]
    html = (tmp_path / "output/_run/report.html").read_text()
    audio = json.loads(re.search(r'id="audio-data">(.*?)</script>', html, re.S)[1])
    assert list(audio) == [heard.recording.recording_id]
    assert "times real time" in html


def store_version(folder, name):
    return open_store(str(folder), S3Config()).stat(name).version


def test_report_follows_no_playlist_to_other_files(nightscribe, tmp_path):
    make_sound(tmp_path / "secret.wav", 2.0)
    listing = tmp_path / "a.wav"
    listing.write_text("ffconcat version 1.0\nfile secret.wav\n")
    heard = transcript(str(listing), "one two", version=store_version(tmp_path, "a.wav"))
    publish_transcripts(open_store(str(tmp_path / "output"), S3Config()), [heard])
    code, _, _ = nightscribe("report", str(tmp_path / "output"))
    assert code == 0
    html = (tmp_path / "output/_run/report.html").read_text()
    assert json.loads(re.search(r'id="audio-data">(.*?)</script>', html, re.S)[1]) == {}


def test_evaluate_scores_who_speaks(nightscribe, tmp_path):
    store = open_store(str(tmp_path / "output"), S3Config())
    told_apart = replace(
        transcript("/a/talk.wav", "well then"), speaker_spans=(SpeakerSpan("speaker-1", 0.0, 0.8),)
    )
    publish_transcripts(store, [told_apart])
    (tmp_path / "talk.rttm").write_text("SPEAKER talk 1 0.0 1.0 <NA> <NA> Ann <NA> <NA>\n")
    code, out, _ = nightscribe("evaluate", f"{tmp_path}/output", f"rttm={tmp_path}/talk.rttm")
    assert code == 0
    assert "1 of 1 counts right" in out
    assert "20.00%" in out
    code, out, _ = nightscribe(
        "evaluate", f"{tmp_path}/output", f"rttm={tmp_path}/talk.rttm", "collar_s=0.25"
    )
    assert "20.00%" not in out


def test_rttm_of_other_recordings_is_refused(nightscribe, run, tmp_path):
    store = open_store(str(tmp_path / "bare"), S3Config())
    publish_transcripts(store, [transcript("/a/talk.wav", "well then")])
    (tmp_path / "x.rttm").write_text("SPEAKER other 1 0.0 1.0 <NA> <NA> Ann <NA> <NA>\n")
    code, _, err = nightscribe("evaluate", f"{tmp_path}/bare", f"rttm={tmp_path}/x.rttm")
    assert code == 2
    assert f"x.rttm names no recording of {tmp_path}/bare, such as /a/talk.wav" in err
    (tmp_path / "x.rttm").write_text("SPEAKER talk 1 0.0 1.0 <NA> <NA> Ann <NA> <NA>\n")
    code, _, err = nightscribe("evaluate", f"{tmp_path}/bare", f"rttm={tmp_path}/x.rttm")
    assert (code, "transcribe with speakers=on" in err) == (2, True)
