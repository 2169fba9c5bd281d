import json
from dataclasses import replace

import pytest

from nightscribe.reading.evaluation import evaluate, files_to_evaluate, write_evaluation
from nightscribe.reading.references import References
from nightscribe.reading.report_data import build_report, progress_of, summarize_run
from nightscribe.reading.run_status import read_status, read_totals, read_word_error_rates
from nightscribe.reading.speaker_evaluation import evaluate_speakers
from nightscribe.reading.speaker_references import SpokenReference
from nightscribe.records import SpeakerSpan
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import read_failures, read_transcripts
from tests.reading.runs import STALL, call, failure, publish_archive, speak, transcript

HISTORY = [[0.0, 0.0, None], [60.0, 6_000.0, 0.8], [120.0, 18_000.0, 0.9]]


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    publish_archive(store)
    store.write("_run/status.json", json.dumps({"history": HISTORY, "occupancy": 0.9}).encode())
    return store


def report(store, max_pages=100):
    rates = read_word_error_rates(store)
    summary = summarize_run(read_transcripts(store), read_failures(store), rates, max_pages)
    status, totals = read_status(store), read_totals(store)
    return build_report("t", "now", summary, status, {"cut": 600}, totals, lambda *_: None)


def by_name(facts_or_shares, value):
    return {one.name: getattr(one, value) for one in facts_or_shares}


def test_everything_in_the_tables_is_counted(store):
    content = report(store)
    assert by_name(content.recordings_by_status, "amount") == {
        "ok": 3,
        "failed": 2,
        "partial": 1,
        "empty": 1,
    }
    assert by_name(content.failures_by_reason, "amount") == {"decode: corrupt": 2}
    assert by_name(content.findings_by_guard, "amount") == {"stall": 1}
    assert set(by_name(content.seconds_by_folder, "amount")) == {"/a", "/a/talks", "/a/calls"}
    assert by_name(content.headline, "value") | {} == {
        "recordings": "7",
        "minutes of audio": "0.3",
        "words": "23",
        "times real time": "150.0",
        "slot occupancy": "90.0%",
    }
    assert by_name(content.facts, "value") == {"model": "tiny, revision r1", "cut": "600"}
    assert [one.audio_s for one in content.progress] == [0, 6_000, 18_000]


def test_failures_and_suspicious_recordings_come_first(store):
    names = [page.name for page in report(store).pages]
    assert sorted(names[:2]) == ["/a/broken.mp3", "/a/x.mp3"]
    assert names[2] == "/a/talks/two.mp3"
    assert len(names) == 7
    few = report(store, max_pages=2)
    assert [page.name for page in few.pages[2:]] == ["/a/talks/two.mp3", "/a/empty.wav"]
    assert few.num_recordings == 7


def test_an_evaluation_shows_in_the_report(store):
    files = list(
        files_to_evaluate(read_transcripts(store), read_failures(store), References(), "en")
    )
    write_evaluation(store, evaluate(files, []))
    content = report(store)
    assert by_name(content.headline, "value")["word error rate"] == "20.00%"
    assert by_name(content.evaluation.substitutions, "amount") == {"train -> bus": 1}
    pages = {page.name: page for page in content.pages}
    assert pages["/a/talks/two.mp3"].word_error_rate == pytest.approx(0.4)
    assert pages["/a/talks/three.flac"].word_error_rate is None


def test_who_speaks_is_on_the_page_in_the_time_of_its_audio():
    one = transcript("/a.wav", "so we meet again", start_s=10.0, end_s=20.0)
    one = replace(one, recording=replace(one.recording, start_s=10.0))
    words = tuple(replace(word, speaker=name) for word, name in zip(one.words, "aabb", strict=True))
    spans = (SpeakerSpan("a", 10.0, 10.8), SpeakerSpan("b", 10.8, 11.6))
    summary = summarize_run([replace(one, words=words, speaker_spans=spans)], [], {}, 10)
    (page,) = build_report("t", "now", summary, {}, {}, None, lambda *_: None).pages
    assert page.speakers == ("a", "b")
    assert [(one.speaker, round(one.start_s, 3)) for one in page.speaker_spans] == [
        ("a", 0.0),
        ("b", 0.8),
    ]


def test_channels_that_nobody_told_apart_speak_in_their_utterances():
    summary = summarize_run(call(), [], {}, 10)
    (page,) = build_report("t", "now", summary, {}, {}, None, lambda *_: None).pages
    assert {one.speaker for one in page.speaker_spans} == set(page.speakers)
    first = min(word.start_s for word in page.words)
    assert page.speaker_spans[0].start_s == first


def test_scores_of_speakers_show_in_the_report(store):
    spoken = References(spoken_by_name={"7": SpokenReference((SpeakerSpan("Ann", 0.0, 1.6),))})
    files = list(files_to_evaluate(read_transcripts(store), [], References(), "en"))
    speakers = evaluate_speakers(read_transcripts(store), [], spoken, "en")
    write_evaluation(store, evaluate(files, [], speakers=speakers))
    facts = by_name(report(store).evaluation.facts, "value")
    assert facts["diarization error rate"] == "75.00%"  # the other channel, 1.2 s
    assert "word error rate with speakers (cpWER)" not in facts


def test_times_on_a_page_count_from_where_the_recording_starts():
    span = transcript("/a.wav", "well then", start_s=0.75, findings=(STALL,))
    span = replace(span, recording=replace(span.recording, start_s=0.25))
    moved = build_report(
        "t", "now", summarize_run([span], [failure("/b.wav")], {}, 9), {}, {}, None, lambda *_: None
    ).pages[1]
    assert [word.start_s for word in moved.words] == pytest.approx([0.5, 0.9])
    assert moved.findings[0].start_s == pytest.approx(STALL.start_s - 0.25)
    assert moved.name == "/a.wav from 0.25 s"


def page_of(channels, speakers=(), load_audio=lambda *_: None):
    summary = summarize_run(channels, [], {}, 9)
    (page,) = build_report("t", "now", summary, {}, {}, None, load_audio, speakers).pages
    return page


def test_the_channels_of_a_file_are_one_page_on_which_they_take_turns():
    agent, caller = call()
    caller = replace(caller, words=speak("It is me.", 0.45))
    played = []
    page = page_of([caller, agent], ["Agent"], lambda recording, _: played.append(recording))
    spoken = [(word.speaker, word.text) for word in page.words]
    agent_says = [("Agent", word) for word in ("Hello.", "Who", "is", "there?")]
    caller_says = [("Speaker 2", word) for word in ("It", "is", "me.")]
    assert spoken == agent_says[:1] + agent_says[1:] + caller_says or (
        spoken == agent_says[:1] + caller_says + agent_says[1:]
    )
    assert page.speakers == ("Agent", "Speaker 2")
    assert (page.name, [one.channel for one in played]) == ("/a/calls/7.wav", [None])
    assert page.speech == tuple(sorted([*agent.speech, *caller.speech]))


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("ok", "empty"), "ok"),
        (("empty", "empty"), "empty"),
        (("ok", "partial"), "partial"),
        (("redecoded", "ok"), "redecoded"),
    ],
)
def test_a_silent_channel_does_not_make_a_file_empty(statuses, expected):
    channels = [
        replace(one, status=status, reasons=(f"is {status}",))
        for one, status in zip(call(), statuses, strict=True)
    ]
    page = page_of(channels)
    assert page.status == expected
    assert page.reasons == (f"Speaker 1: is {statuses[0]}", f"Speaker 2: is {statuses[1]}")


def test_a_run_without_a_status_has_no_progress(tmp_path):
    assert read_status(open_store(str(tmp_path), S3Config())) == {}


def test_a_recording_that_is_twice_in_the_tables_of_a_killed_run_ends_no_report():
    twice = [transcript("/a.wav", text) for text in ("well then", "well now")]
    assert summarize_run(twice, [], {}, 9).most_suspicious() == [[one] for one in twice]
    assert len(summarize_run(twice, [], {}, 1).most_suspicious()) == 1


def test_throughput_follows_the_steps_of_the_engines_and_not_finished_recordings():
    """Two long recordings that end together: the audio is spread over the steps."""
    history = [
        [0.0, 0.0, None, 0],
        [5.0, 0.0, 0.9, 0],
        [10.0, 0.0, 0.9, 1000],
        [15.0, 0.0, 0.9, 1000],
        [20.0, 200.0, 0.9, 2500],
    ]
    points = progress_of({"history": history, "state": "finished"})
    assert [(one.elapsed_s, one.audio_s) for one in points] == [(0, 0), (10, 80), (20, 200)]
    running = progress_of({"history": history[:3], "state": "running"})
    assert [one.audio_s for one in running] == [0, pytest.approx(80)]
