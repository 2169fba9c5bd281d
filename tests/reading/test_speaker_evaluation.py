from dataclasses import replace

import pytest

from nightscribe.reading.evaluation import empty_transcripts, evaluate, rows, totals
from nightscribe.reading.export import document
from nightscribe.reading.references import References, read_references
from nightscribe.reading.speaker_evaluation import evaluate_speakers, speaker_totals
from nightscribe.reading.speaker_references import (
    SpokenReference,
    read_rttm,
    spans_of_words,
)
from nightscribe.records import SpeakerSpan, Word
from nightscribe.rendering.document import RenderingConfig
from nightscribe.rendering.formats import render
from nightscribe.storage.locations import S3Config
from tests.reading.runs import failure, speak, transcript

TRUTH = (SpeakerSpan("Ann", 0.0, 2.0), SpeakerSpan("Bob", 2.0, 4.0))


def by(speaker, words):
    return tuple(replace(word, speaker=speaker) for word in words)


def told_apart(uri="/a/talk.wav", change_s=2.0):
    """Ten words of two speakers, of whom the second begins at a time."""
    one = transcript(uri, "the cat sat down here dogs often bark very loud")
    words = tuple(
        replace(word, speaker="speaker-1" if word.start_s < change_s else "speaker-2")
        for word in one.words
    )
    spans = (SpeakerSpan("speaker-1", 0.0, change_s), SpeakerSpan("speaker-2", change_s, 4.0))
    return replace(one, words=words, speaker_spans=spans)


WORDS = by("Ann", speak("the cat sat down here")) + by(
    "Bob", speak("dogs often bark very loud", start_s=2.0)
)


def references(words=WORDS, spans=TRUTH):
    return References(spoken_by_name={"talk": SpokenReference(spans, words)})


def scored(transcripts, failures=(), given=None):
    failed = empty_transcripts(failures, {})
    return evaluate_speakers(transcripts, failed, given or references(), "en")


def test_a_run_that_is_right_has_no_errors_whatever_it_calls_the_speakers():
    total = speaker_totals(scored([told_apart()]))
    assert total["diarization_error_rate"] == total["jaccard_error_rate"] == 0
    assert total["cp_word_error_rate"] == total["tcp_word_error_rate"] == 0
    assert (total["num_rightly_counted"], total["num_recordings"]) == (1, 1)


def test_a_change_of_speaker_that_comes_late_costs_its_seconds_and_its_words():
    total = speaker_totals(scored([told_apart(change_s=2.8)]))
    assert total["diarization_error_rate"] == pytest.approx(0.8 / 4)
    assert total["confused_s"] == pytest.approx(0.8)
    assert total["cp_word_error_rate"] == pytest.approx(4 / 10)  # two deleted, two inserted


def test_a_recording_that_failed_is_all_missed():
    total = speaker_totals(scored([told_apart("/b/other.wav")], [failure("/a/talk.wav")]))
    assert total["diarization_error_rate"] == 1
    assert total["cp_word_error_rate"] == 1


def test_a_run_that_did_not_tell_speakers_apart_has_no_scores_but_is_counted():
    found = scored([replace(told_apart(), speaker_spans=())], [failure("/c/talk.wav")])
    assert (found.scores, found.num_not_told_apart) == ((), 1)


def test_channels_are_speakers_where_nobody_asked():
    left, right = (
        transcript("/a/talk.wav", text, channel=n, num_channels=2, start_s=start_s)
        for n, (text, start_s) in enumerate(
            [("the cat sat down here", 0.0), ("dogs often bark very loud", 2.0)]
        )
    )
    total = speaker_totals(scored([left, right]))
    assert total["diarization_error_rate"] == total["cp_word_error_rate"] == 0


def test_a_call_with_a_silent_channel_is_scored_beside_what_was_not_told_apart():
    left = transcript("/a/talk.wav", "the cat sat down here", channel=0, num_channels=2)
    right = transcript("/a/talk.wav", "", channel=1, num_channels=2, status="empty")
    mono = replace(told_apart("/a/other.wav"), speaker_spans=())
    spoken = SpokenReference(TRUTH, WORDS)
    given = References(spoken_by_name={"talk": spoken, "other": spoken})
    found = scored([left, right, mono], given=given)
    assert (len(found.scores), found.num_not_told_apart) == (1, 1)


def test_equal_labels_of_two_channels_are_two_speakers():
    channels = [
        replace(
            transcript("/a/talk.wav", text, channel=n, num_channels=2, start_s=2.0 * n),
            speaker_spans=(SpeakerSpan("speaker-1", 2.0 * n, 2.0 * n + 2.0),),
        )
        for n, text in enumerate(["the cat sat down here", "dogs often bark very loud"])
    ]
    assert speaker_totals(scored(channels))["diarization_error_rate"] == 0


def test_spans_without_words_have_no_word_errors():
    total = speaker_totals(scored([told_apart()], given=references(words=())))
    assert total["diarization_error_rate"] == 0
    assert total["cp_word_error_rate"] is None


@pytest.mark.parametrize("name", ["late talk", "/a/late talk.wav"], ids=["export", "show"])
def test_what_is_written_as_rttm_scores_as_right(name, tmp_path):
    one = told_apart("/a/late talk.wav")
    text = render(document(name, [one], []), "rttm", RenderingConfig())
    (tmp_path / "late talk.rttm").write_text(text)
    for source in (tmp_path, tmp_path / "late talk.rttm"):
        given = References(spoken_by_name=read_rttm(str(source), S3Config()))
        assert speaker_totals(scored([one], given=given))["diarization_error_rate"] == 0


def test_a_row_of_rttm_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "a.rttm").write_text(";; made by hand\nSPEAKER talk 1 0.5\n")
    with pytest.raises(ValueError, match=r"a\.rttm line 2: expected SPEAKER NAME CHANNEL"):
        read_rttm(str(tmp_path / "a.rttm"), S3Config())


def test_speakers_of_a_manifest_are_those_of_its_words_or_of_its_spans(tmp_path):
    words = '[{"text": "so", "start_s": 1, "end_s": 1.5, "speaker": "Ann"}]'
    spans = '[{"speaker": "Bob", "start_s": 3, "end_s": 4.5}]'
    (tmp_path / "truth.jsonl").write_text(
        f'{{"uri": "/a/talk.wav", "words": {words}}}\n'
        f'{{"uri": "/a/call.wav", "speaker_spans": {spans}}}\n'
    )
    found = read_references(str(tmp_path / "truth.jsonl"), None, S3Config()).spoken_by_key
    of = {key[0]: one.spans for key, one in found.items()}
    assert of["/a/talk.wav"] == (SpeakerSpan("Ann", 1.0, 1.5),)
    assert of["/a/call.wav"] == (SpeakerSpan("Bob", 3.0, 4.5),)


def test_words_of_one_speaker_without_a_pause_are_one_span():
    words = [Word("a", 0, 1, 1.0, "x"), Word("b", 0.5, 2, 1.0, "y"), Word("c", 1.4, 2, 1.0, "x")]
    far = Word("d", 9, 9.5, 1.0, "x")
    assert sorted(spans_of_words([*words, far]), key=lambda one: one.start_s) == [
        SpeakerSpan("x", 0, 2),
        SpeakerSpan("y", 0.5, 2),
        SpeakerSpan("x", 9, 9.5),
    ]


def test_files_without_a_text_have_a_row_of_their_speakers():
    evaluation = evaluate([], [], speakers=scored([told_apart()]))
    (row,) = rows(evaluation)
    assert (row["uri"], row["num_speakers"], row["num_speakers_found"]) == ("/a/talk.wav", 2, 2)
    assert totals(evaluation)["normalised"]["word_error_rate"] is None
