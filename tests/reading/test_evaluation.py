import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from nightscribe.reading.evaluation import (
    evaluate,
    files_to_evaluate,
    rows,
    totals,
    write_evaluation,
)
from nightscribe.reading.references import Reference, References
from nightscribe.reading.run_status import RunThroughput, read_totals
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import read_failures, read_transcripts
from tests.reading.runs import call, failure, publish_archive, speak, transcript
from tests.storage.records import shards


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    publish_archive(store)
    return store


def references_by_uri(references):
    return References(by_key={(uri, 0.0, None, None): one for uri, one in references.items()})


def read_files(store, references=None):
    transcripts, failures = read_transcripts(store), read_failures(store)
    return list(files_to_evaluate(transcripts, failures, references_by_uri(references or {}), "en"))


def test_every_file_with_a_reference_counts_also_if_it_failed(store):
    hypotheses = {one.name: one.pair.hypothesis for one in read_files(store)}
    assert hypotheses == {
        "/a/talks/one.mp3": "The cat sat on the mat.",
        "/a/talks/two.mp3": "He went by bus",
        "/a/empty.wav": "",
        "/a/calls/7.wav": "Hello. Who is there? It is me.",
        "/a/broken.mp3": "",
    }


def test_totals_equal_a_count_by_hand(store):
    total = totals(evaluate(read_files(store), []))
    normalised = total["normalised"]
    # One substitution and one deletion in two.mp3, two deletions in broken.mp3.
    assert normalised["reference_words"] == 6 + 5 + 7 + 2
    assert (normalised["substitutions"], normalised["deletions"], normalised["insertions"]) == (
        1,
        3,
        0,
    )
    assert normalised["word_error_rate"] == pytest.approx(4 / 20)
    assert normalised["mean_word_error_rate"] == pytest.approx((0 + 0.4 + 0 + 1) / 4)
    assert total["raw"]["word_error_rate"] > normalised["word_error_rate"]
    assert ["train -> bus", 1] in total["substitutions"]
    assert ["again", 1] in total["deletions"]
    assert total["bleu"] is None


def test_references_of_a_manifest_take_precedence(store):
    references = {"/a/talks/three.flac": Reference("nobody wrote down what this was")}
    scored = rows(evaluate(read_files(store, references), []))
    three = next(row for row in scored if row["uri"].endswith("three.flac"))
    assert (three["substitutions"], three["word_error_rate"]) == (1, pytest.approx(1 / 6))


def test_the_worst_come_first_and_survive_parquet(store, tmp_path):
    evaluation = evaluate(read_files(store), [])
    write_evaluation(store, evaluation)
    table = pq.read_table(tmp_path / "_run/evaluation.parquet").to_pylist()
    assert [row["uri"] for row in table[:2]] == ["/a/broken.mp3", "/a/talks/two.mp3"]
    assert read_totals(store) == json.loads(json.dumps(totals(evaluation)))


def test_a_run_without_an_evaluation_has_no_totals(store):
    assert read_totals(store) is None


def test_translations_are_scored_separately():
    french = "nous sommes all\u00e9s au march\u00e9 hier soir ensemble"
    domain = {"domain": "fr-en", "language": "fr"}
    transcripts = [
        transcript("/a.wav", "we went to the market together last night", text=french, **domain),
        transcript("/b.wav", "all right", text="all right"),
    ]
    evaluation = evaluate(list(files_to_evaluate(transcripts, [], References(), "en")), ["fr-en"])
    assert evaluation.translation is not None
    assert evaluation.normalised.words.num_reference == 2
    assert [row["uri"] for row in rows(evaluation)] == ["/b.wav", "/a.wav"]


def test_languages_have_their_own_normalisers():
    transcripts = [
        transcript("/a.wav", "twenty one", text="21", language="en"),
        transcript("/b.wav", "c'est vingt et un", text="C'est vingt et un!", language="fr"),
    ]
    total = totals(evaluate(list(files_to_evaluate(transcripts, [], References(), "en")), []))
    assert set(total["by_language"]) == {"en", "fr"}
    # The leaderboard's rules are for English: "21".
    assert total["leaderboard_2026"] == {"word_error_rate": 0, "reference_words": 1, "errors": 0}
    assert total["normalised"]["word_error_rate"] == 0


def test_word_times_are_compared_with_the_reference():
    transcripts = [transcript("/a.wav", "so we meet again", start_s=0.1)]
    references = {"/a.wav": Reference("so we meet again", speak("so we meet again"))}
    evaluation = evaluate(
        list(files_to_evaluate(transcripts, [], references_by_uri(references), "en")), []
    )
    assert evaluation.times.num_words == 4
    assert evaluation.times.median_shift_s == pytest.approx(0.1)


def test_a_run_without_references_is_an_error():
    transcripts = [transcript("/a.wav", "who knows")]
    with pytest.raises(ValueError, match="no recording has a reference"):
        evaluate(list(files_to_evaluate(transcripts, [failure("/b.wav")], References(), "en")), [])


def test_channels_with_their_own_references_are_scored_alone(store):
    uri = "/a/calls/7.wav"
    references = References(
        by_key={
            (uri, 0.0, None, 0): Reference("hello who is there"),
            (uri, 0.0, None, 1): Reference("it was me"),
        }
    )
    transcripts, failures = read_transcripts(store), read_failures(store)
    files = list(files_to_evaluate(transcripts, failures, references, "en"))
    assert [one.pair.reference for one in files if one.name == uri] == [
        "hello who is there",
        "it was me",
    ]


STEREO = {"num_channels": 2}


def evaluated(transcripts, failures=(), references=None):
    return list(files_to_evaluate(transcripts, failures, references or References(), "en"))


def test_a_file_with_channels_is_as_long_as_its_longest_channel():
    one, other = call()
    (only,) = evaluated([one, other])
    assert only.pair.duration_s == max(one.duration_s, other.duration_s)


def test_words_of_all_channels_stand_in_the_order_of_their_times():
    both = [
        transcript("/c.wav", "so well bye", channel=1, start_s=0.2, text="x", **STEREO),
        transcript("/c.wav", "hi there you", channel=0, start_s=0.0, text="x", **STEREO),
    ]
    for given in (both, both[::-1]):
        (only,) = evaluated(given)
        assert only.pair.hypothesis == "hi so there well you bye"


def test_a_file_whose_channels_all_failed_counts_once():
    failures = [failure("/c.wav", channel=n, text="not a word", **STEREO) for n in (0, 1)]
    (only,) = evaluated([], failures)
    assert (only.pair.reference, only.pair.hypothesis) == ("not a word", "")


BY_CHANNEL = References(
    by_key={
        ("/c.wav", 0.0, None, 0): Reference("hello there"),
        ("/c.wav", 0.0, None, 1): Reference("who is it"),
    }
)


@pytest.mark.parametrize("split", [STEREO, {}], ids=["split by us", "split by the manifest"])
def test_a_channel_that_failed_beside_one_that_did_not_has_an_empty_hypothesis(split):
    transcripts = [transcript("/c.wav", "hello there", channel=0, **split)]
    found = evaluated(transcripts, [failure("/c.wav", channel=1, **split)], BY_CHANNEL)
    assert [(one.pair.reference, one.pair.hypothesis) for one in found] == [
        ("hello there", "hello there"),
        ("who is it", ""),
    ]


def test_a_file_that_failed_before_it_was_split_has_an_empty_hypothesis_in_each_channel():
    found = evaluated([], [failure("/c.wav")], BY_CHANNEL)
    assert [(one.pair.reference, one.pair.hypothesis) for one in found] == [
        ("hello there", ""),
        ("who is it", ""),
    ]


def test_a_file_of_which_a_shard_failed_counts_once_by_its_transcript():
    partial = transcript("/a.wav", "so we meet", text="so we meet again", status="partial")
    (shard,) = shards(partial.recording, 1)
    (only,) = evaluated(
        [partial], [replace(failure("/a.wav", text="so we meet again"), shard=shard)]
    )
    assert only.pair.hypothesis == "so we meet"


def test_word_times_of_translations_are_not_scored():
    words = speak("so we meet again")
    transcripts = [
        transcript("/a.wav", "so we meet again", start_s=0.1),
        transcript("/b.wav", "so we meet again", start_s=9.0, domain="fr-en"),
    ]
    by_key = {
        (uri, 0.0, None, None): Reference("so we meet again", words) for uri in ("/a.wav", "/b.wav")
    }
    evaluation = evaluate(evaluated(transcripts, references=References(by_key=by_key)), ["fr-en"])
    assert evaluation.times.num_words == 4
    assert evaluation.times.median_shift_s == pytest.approx(0.1)


def test_the_throughput_of_the_run_is_part_of_the_totals(store):
    total = totals(
        evaluate(read_files(store), [], RunThroughput(times_real_time=812.0, occupancy=0.97))
    )
    assert (total["times_real_time"], total["occupancy"]) == (812.0, 0.97)
    assert totals(evaluate(read_files(store), []))["times_real_time"] is None
