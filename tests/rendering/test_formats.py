"""Every format is read back with an independent parser: no word is lost or shifted."""

import csv
import io
import json
import re
from collections import Counter
from html import unescape

import pysubs2
import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.records import Span, Word
from nightscribe.rendering.document import Document, RenderingConfig, Speaker, monologue
from nightscribe.rendering.formats import FORMATS, SUFFIXES, render

CONFIG = RenderingConfig()
HALF_MS_S = 0.0005001

texts = st.text(
    st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=14
) | st.sampled_from(["Mr.", "end.", "a<b", "R&D", '"quoted"', "-->", "12", "two words", "NOTE"])


@st.composite
def spoken_words(draw, max_size=60):
    time_ms, words = draw(st.integers(0, 4_000_000)), []
    for text in draw(st.lists(texts, max_size=max_size)):
        time_ms += draw(st.sampled_from([0, 1, 80, 240, 900, 3_000]))
        end_ms = time_ms + draw(st.sampled_from([0, 80, 320, 1_500, 9_000]))
        confidence = draw(st.integers(0, 10_000)) / 10_000
        words.append(Word(text, time_ms / 1000, end_ms / 1000, confidence))
        time_ms = draw(st.sampled_from([time_ms, end_ms]))
    return tuple(words)


def texts_of(words):
    return [word.text for word in words]


@given(spoken_words())
def test_json_returns_the_same_words(words):
    read = json.loads(render(monologue("talk", words), "json"))
    returned = [Word(**word) for utterance in read["utterances"] for word in utterance["words"]]
    assert returned == list(words)


@given(spoken_words())
def test_text_holds_every_word_in_order(words):
    assert render(monologue("talk", words), "text").split() == " ".join(texts_of(words)).split()


@given(spoken_words())
def test_tsv_is_read_back_by_a_csv_reader(words):
    table = io.StringIO(render(monologue("talk", words), "tsv"))
    rows = list(csv.DictReader(table, dialect="excel-tab"))
    assert [row["word"] for row in rows] == texts_of(words)
    for row, word in zip(rows, words, strict=True):
        assert float(row["start_s"]) == pytest.approx(word.start_s, abs=HALF_MS_S)
        assert float(row["end_s"]) == pytest.approx(word.end_s, abs=HALF_MS_S)
        assert float(row["confidence"]) == pytest.approx(word.confidence, abs=1e-4)


@given(spoken_words())
def test_words_have_one_row_each(words):
    rows = render(monologue("talk", words), "words").splitlines()
    assert [row.split(maxsplit=3)[3] for row in rows] == texts_of(words)
    starts_s = [float(row.split()[0]) for row in rows]
    assert starts_s == pytest.approx([word.start_s for word in words], abs=HALF_MS_S)


@given(spoken_words())
def test_ctm_has_six_fields_and_all_words(words):
    rows = [row.split(" ") for row in render(monologue("my talk", words), "ctm").splitlines()]
    # In order of time, as sclite wants it: the parts of a word may lie among those of another.
    assert Counter(row[4] for row in rows) == Counter(" ".join(texts_of(words)).split())
    assert all(len(row) == 6 and row[:2] == ["my_talk", "1"] for row in rows)
    starts_s = [float(row[2]) for row in rows]
    assert starts_s == sorted(starts_s)
    for word in words:
        first = word.text.split()[0]
        named_s = [float(row[2]) for row in rows if row[4] == first]
        assert any(start_s == pytest.approx(word.start_s, abs=HALF_MS_S) for start_s in named_s)


@given(spoken_words())
def test_srt_is_read_back_with_every_word_in_a_cue_that_starts_with_its_first(words):
    read = list(srt.parse(render(monologue("talk", words), "srt")))
    assert " ".join(cue.content for cue in read).split() == " ".join(texts_of(words)).split()
    assert [cue.index for cue in read] == list(range(1, len(read) + 1))
    rest = list(words)
    for cue in read:
        cue_words = take(rest, len(cue.content.split()))
        assert cue.start.total_seconds() == pytest.approx(cue_words[0].start_s, abs=HALF_MS_S)
        assert all(word.start_s < cue.end.total_seconds() + HALF_MS_S for word in cue_words)


def take(rest, num_texts):
    taken = []
    while num_texts > 0:
        taken.append(rest.pop(0))
        num_texts -= len(taken[-1].text.split())
    return taken


@given(spoken_words())
def test_vtt_is_read_back_with_the_start_of_every_word(words):
    read = webvtt.from_string(render(monologue("talk", words), "vtt")).captions
    returned = [word for cue in read for word in word_cues(cue)]
    assert [text for text, _ in returned] == texts_of(words)
    starts_s = [start_s for _, start_s in returned]
    assert starts_s == pytest.approx([word.start_s for word in words], abs=HALF_MS_S)


def word_cues(cue):
    """The words of a cue and their starts, by the rules of the WebVTT specification."""
    last_s = seconds(cue.start)
    end_s = seconds(cue.end)
    for stamp, text in re.findall(r"(?:<([\d:.]+)>)?<c>([^<]*)</c>", cue.raw_text):
        if stamp:
            assert last_s < seconds(stamp) < end_s
            last_s = seconds(stamp)
        yield unescape(text), last_s


def seconds(clock):
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


@given(spoken_words(), spoken_words())
def test_channels_are_speakers_in_every_format(left, right):
    document = Document("call", (Speaker("Left", left), Speaker("Right", right)))
    by_speaker = {"Left": list(left), "Right": list(right)}
    read = json.loads(render(document, "json"))
    for name, words in by_speaker.items():
        own = [part for part in read["utterances"] if part["speaker"] == name]
        assert [Word(**word) for part in own for word in part["words"]] == words
    rows = csv.DictReader(io.StringIO(render(document, "tsv")), dialect="excel-tab")
    rows_read = [(row["speaker"], row["word"]) for row in rows]
    for name, words in by_speaker.items():
        assert [text for speaker, text in rows_read if speaker == name] == texts_of(words)
    for cue in webvtt.from_string(render(document, "vtt")).captions:
        assert cue.voice in by_speaker


@pytest.mark.parametrize("format", sorted(FORMATS.keys() - {"textgrid", "eaf"}))
def test_a_silent_recording_renders(format):
    assert (
        render(monologue("silence", ()), format).strip()
        in (
            "",
            "WEBVTT",
            "start_s\tend_s\tspeaker\tconfidence\tword",
        )
        or json.loads(render(monologue("silence", ()), format))["utterances"] == []
    )


@pytest.mark.parametrize("format", FORMATS)
def test_line_breaks_inside_a_word_never_break_a_format(format):
    broken, whole = (
        monologue("talk", [Word(text, 0.5, 1.0, 0.9), Word("tail", 1.0, 1.2, 0.9)])
        for text in ("one\n\ntwo\tthree\x00", "one two three")
    )
    if format != "json":
        assert render(broken, format) == render(whole, format)


def test_every_format_has_its_own_suffix():
    assert len(set(SUFFIXES.values())) == len(FORMATS) == len(SUFFIXES)


def test_an_unknown_format_is_an_error_that_names_the_formats():
    with pytest.raises(ValueError, match="unknown format 'sub'; choose from text, words, json"):
        render(monologue("talk", ()), "sub")


@pytest.mark.parametrize("format", ["json", "ctm", "tsv", "words", "vtt", "srt"])
def test_no_word_lasts_into_a_pause_where_speech_is_known(format):
    """The model lets a word last until the next one begins, here for nine seconds."""
    words = (Word("wait", 1.0, 1.4, 0.9), Word("here", 1.4, 10.4, 0.9), Word("go", 10.4, 10.8, 0.9))
    speech = (Span(0.9, 1.8), Span(10.3, 11.0))
    document = Document("talk", (Speaker("", words, speech=speech),))
    ends_s = {
        "json": lambda text: [
            word["end_s"] for part in json.loads(text)["utterances"] for word in part["words"]
        ],
        "ctm": lambda text: [
            float(row.split()[2]) + float(row.split()[3]) for row in text.splitlines()
        ],
        "tsv": lambda text: [float(row.split("\t")[1]) for row in text.splitlines()[1:]],
        "words": lambda text: [float(row.split()[1]) for row in text.splitlines()],
    }
    text = render(document, format)
    if format in ends_s:
        assert ends_s[format](text) == pytest.approx([1.4, 1.8, 10.8])
    else:
        first, _ = pysubs2.SSAFile.from_string(text, format_=format).events
        assert first.end <= 1800 + 1000
