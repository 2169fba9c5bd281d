"""A document of word processors, read back with the library that others read it with."""

import io

import docx
import pytest

from nightscribe.records import Word
from nightscribe.rendering.document import Document, RenderingConfig, Speaker, monologue
from nightscribe.rendering.docx_file import render_docx

CONFIG = RenderingConfig()


def word(text, start_s):
    return Word(text, start_s, start_s + 0.3, 0.9)


def read(document, about=()):
    return docx.Document(io.BytesIO(render_docx(document, CONFIG, about)))


def texts(document, about=()):
    return [paragraph.text for paragraph in read(document, about).paragraphs]


DIALOGUE = Document(
    "call",
    (
        Speaker("Agent", (word("Hello.", 1.0), word("Goodbye.", 3723.9))),
        Speaker("Caller", (word("Yes?", 2.0),)),
    ),
)


def test_turns_follow_the_rows_about_the_recording_with_their_times_and_speakers():
    assert texts(DIALOGUE, [("Length", "1:02:04")]) == [
        "call",
        "Length: 1:02:04",
        "Speakers: Agent, Caller",
        "Transcript",
        "0:00:01\tAgent: Hello.",
        "0:00:02\tCaller: Yes?",
        "1:02:03\tAgent: Goodbye.",
    ]


def test_a_single_speaker_is_not_named():
    assert texts(monologue("talk", [word("Hello.", 0.0)])) == [
        "talk",
        "Transcript",
        "0:00:00\tHello.",
    ]


def test_the_speaker_is_bold_and_hangs_beside_the_time():
    turn = read(DIALOGUE).paragraphs[-1]
    assert [run.text for run in turn.runs if run.bold] == ["Agent: "]
    assert turn.paragraph_format.first_line_indent == -turn.paragraph_format.left_indent < 0
    assert read(DIALOGUE).core_properties.author == ""


def test_pages_are_numbered():
    footer = read(DIALOGUE).sections[0].footer
    assert 'instr="PAGE"' in footer.paragraphs[0]._p.xml


@pytest.mark.parametrize("odd", ["a\x00b", "a\nb", "a\udce9b", "a\uffffb"])
def test_what_xml_cannot_hold_costs_no_document(odd):
    name, row, _, turn = texts(monologue(odd, [word(odd, 0.0)]), [("Recording", odd)])
    assert {name, row.removeprefix("Recording: "), turn.partition("\t")[2]} <= {"a b", "a\ufffdb"}
