import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.records import SpeakerSpan, Word
from nightscribe.rendering.document import Document, RenderingConfig, speakers_in, utterances
from nightscribe.rendering.formats import render

WORDS = [
    Word("good", 0.5, 0.9, 0.9, "speaker-1"),
    Word("day", 0.9, 1.3, 0.9, "speaker-1"),
    Word('"hello" & <you>', 1.4, 2.0, 0.8, "speaker-2"),
    Word("well", 2.1, 2.4, 0.9, "speaker-1"),
]
SPANS = [
    SpeakerSpan("speaker-1", 0.4, 1.3),
    SpeakerSpan("speaker-2", 1.3, 2.2),
    SpeakerSpan("speaker-1", 2.0, 2.5),
]
TALK = Document("a talk", speakers_in(WORDS, SPANS))


def test_rttm_has_a_row_for_each_span_by_start():
    assert render(TALK, "rttm").splitlines() == [
        "SPEAKER a_talk 1 0.400 0.900 <NA> <NA> speaker-1 <NA> <NA>",
        "SPEAKER a_talk 1 1.300 0.900 <NA> <NA> speaker-2 <NA> <NA>",
        "SPEAKER a_talk 1 2.000 0.500 <NA> <NA> speaker-1 <NA> <NA>",
    ]


def test_turns_follow_the_speakers_and_cut_no_word():
    turns = [(one.speaker, one.text) for one in utterances(TALK, RenderingConfig())]
    assert turns == [
        ("speaker-1", "good day"),
        ("speaker-2", '"hello" & <you>'),
        ("speaker-1", "well"),
    ]


def test_subtitles_and_text_name_the_speakers():
    assert "<v speaker-2>" in render(TALK, "vtt")
    assert "speaker-1: well" in render(TALK, "srt")
    assert render(TALK, "text").startswith("speaker-1: good day\n\nspeaker-2: ")


def test_channels_of_several_speakers_say_which_channel():
    names = [
        [one.name for one in speakers_in(words, [], channel_name="Agent", channel=0)]
        for words in (WORDS, WORDS[:2], [Word("x", 0, 1, 1.0, "Judge Ito"), *WORDS])
    ]
    assert names == [
        ["Agent, speaker-1", "Agent, speaker-2"],
        ["Agent"],
        ["Judge Ito", "Agent, speaker-1", "Agent, speaker-2"],
    ]


def test_eaf_holds_every_word_of_every_speaker():
    tree = ElementTree.fromstring(render(TALK, "eaf").encode())
    time_of = {
        slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in tree.iter("TIME_SLOT")
    }
    found = [
        (
            tier.get("TIER_ID"),
            time_of[one.get("TIME_SLOT_REF1")],
            time_of[one.get("TIME_SLOT_REF2")],
            one.findtext("ANNOTATION_VALUE"),
        )
        for tier in tree.iter("TIER")
        for one in tier.iter("ALIGNABLE_ANNOTATION")
    ]
    assert ("speaker-2 words", 1400, 2000, '"hello" & <you>') in found
    assert [row[3] for row in found if row[0] == "speaker-1 words"] == ["good", "day", "well"]
    ids = [one.get("ANNOTATION_ID") for one in tree.iter("ALIGNABLE_ANNOTATION")]
    assert len(ids) == len(set(ids)) == 7


def test_eaf_opens_the_recording_where_it_is_a_file():
    def media(uri):
        text = render(replace(TALK, uri=uri), "eaf")
        return [
            one.attrib for one in ElementTree.fromstring(text.encode()).iter("MEDIA_DESCRIPTOR")
        ]

    expected = {
        "MEDIA_URL": "file:///a%20b/talk%26.wav",
        "RELATIVE_MEDIA_URL": "./talk%26.wav",
        "MIME_TYPE": "audio/x-wav",
    }
    assert media("file:///a%20b/talk%26.wav") == media("/a b/talk&.wav") == [expected]
    assert media("s3://court/talk.wav") == media("") == []


@pytest.mark.parametrize(
    ("duration_s", "end_s"), [(60.0, "60.000"), (1.0, "2.400"), (0.0, "2.400")]
)
def test_a_textgrid_is_as_long_as_the_recording_and_its_words(duration_s, end_s):
    text = render(replace(TALK, duration_s=duration_s), "textgrid")
    assert {one.split()[-1] for one in re.findall(r"^ {0,8}xmax = .*$", text, re.M)} == {end_s}


def test_voice_tags_are_read_by_a_parser_that_others_wrote():
    captions = webvtt.from_string(render(TALK, "vtt")).captions
    spoken = [(one.voice, one.text) for one in captions]
    assert [who for who, _ in spoken] == ["speaker-1", "speaker-2", "speaker-1"]
    assert spoken[2][1] == "well"


def test_eaf_is_read_by_a_parser_that_others_wrote(tmp_path):
    elan = pytest.importorskip("pympi.Elan")
    (tmp_path / "talk.eaf").write_text(render(TALK, "eaf"), encoding="utf-8")
    read = elan.Eaf(str(tmp_path / "talk.eaf"))
    words = [row[:3] for row in read.get_annotation_data_for_tier("speaker-1 words")]
    assert words == [(500, 900, "good"), (900, 1300, "day"), (2100, 2400, "well")]
    assert [row[2] for row in read.get_annotation_data_for_tier("speaker-2")] == ['"hello" & <you>']


def test_textgrid_is_read_by_a_parser_that_others_wrote(tmp_path):
    praat = pytest.importorskip("pympi.Praat")
    (tmp_path / "talk.TextGrid").write_text(render(TALK, "textgrid"), encoding="utf-8")
    read = praat.TextGrid(str(tmp_path / "talk.TextGrid"))
    tiers = {
        tier.name: [one for one in tier.get_all_intervals() if one[2]] for tier in read.get_tiers()
    }
    assert tiers["speaker-1 words"] == [(0.5, 0.9, "good"), (0.9, 1.3, "day"), (2.1, 2.4, "well")]
    assert [one[2] for one in tiers["speaker-1"]] == ["good day", "well"]


def test_rttm_and_ctm_are_read_by_a_parser_that_others_wrote():
    formats = pytest.importorskip("meeteval.io")
    spans = formats.RTTM.parse(render(TALK, "rttm")).to_seglst()
    assert [(one["speaker"], float(one["start_time"])) for one in spans] == [
        ("speaker-1", 0.4),
        ("speaker-2", 1.3),
        ("speaker-1", 2.0),
    ]
    words = formats.CTM.parse(render(TALK, "ctm")).to_seglst()
    assert [one["words"] for one in words][:2] == ["good", "day"]


times = st.floats(0, 20, allow_nan=False)
spoken = st.lists(st.tuples(times, st.floats(0, 3), st.sampled_from(["speaker-1", "speaker-2"])))


@given(spoken)
def test_every_tier_of_a_textgrid_fills_its_time_without_overlap(rows):
    rows = sorted(rows)
    words = [Word("w", start_s, start_s + length_s, 1.0, who) for start_s, length_s, who in rows]
    text = render(Document("talk", speakers_in(words, [])), "textgrid")
    (end_s,) = {float(found) for found in re.findall(r"^ {8}xmax = (.*)$", text, re.M)}
    for tier in text.split("    item [")[1:]:
        edges = [
            (float(start), float(end))
            for start, end in re.findall(r"xmin = (\S+)\n {12}xmax = (\S+)", tier)
        ]
        assert edges[0][0] == 0
        assert edges[-1][1] == end_s
        assert all(a[1] == b[0] for a, b in pairwise(edges))
        assert all(start < end for start, end in edges)


@pytest.mark.parametrize("format", ["rttm", "textgrid", "eaf"])
def test_an_empty_transcript_is_an_empty_document(format):
    assert "w" not in re.findall(r"\b\w\b", render(Document("talk", ()), format))
