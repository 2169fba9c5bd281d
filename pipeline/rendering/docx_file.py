"""A transcript as a document of word processors: title, recording, speakers, turns with times.

Needs the extra `docx`. `formats` has everything that is plain text.
"""

import io
import re
from collections.abc import Sequence

from docx import Document as Docx
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.section import Section
from docx.shared import Cm, Pt, RGBColor
from docx.text.paragraph import Paragraph

from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    SpeakerUtterance,
    hours_clock,
    one_line,
    paragraphs,
    utterances,
)

GREY = RGBColor(0x59, 0x59, 0x59)  # dark enough for print
TIME_COLUMN = Cm(1.9)
# XML has no way to write these: halves of pairs, as in file names that are not UTF-8, and two more.
_NOT_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")

About = Sequence[tuple[str, str]]


def render_docx(document: Document, config: RenderingConfig, about: About = ()) -> bytes:
    """The file: under the title the rows of `about`, then a paragraph for each turn."""
    docx = Docx()
    docx.core_properties.title, docx.core_properties.author = _plain(document.name), ""
    docx.styles["Normal"].paragraph_format.space_after = Pt(6)
    docx.add_heading(_plain(document.name), level=1)
    for name, value in [*about, *_speakers(document)]:
        _add_row(docx.add_paragraph(), name, value)
    docx.add_heading("Transcript", level=2)
    for turn in paragraphs(utterances(document, config), config):
        _add_turn(docx.add_paragraph(), turn, document.names_speakers)
    _number_pages(docx.sections[0])
    file = io.BytesIO()
    docx.save(file)
    return file.getvalue()


def _plain(text: str) -> str:
    return _NOT_XML.sub("\ufffd", one_line(text))


def _speakers(document: Document) -> About:
    names = ", ".join(_plain(speaker.name) for speaker in document.speakers)
    return [("Speakers", names)] if document.names_speakers else []


def _add_row(row: Paragraph, name: str, value: str) -> None:
    row.paragraph_format.space_after = Pt(0)
    row.add_run(f"{name}: ").font.color.rgb = GREY
    row.add_run(_plain(value))


def _add_turn(paragraph: Paragraph, turn: Sequence[SpeakerUtterance], names_speaker: bool) -> None:
    """Its time in a column of its own, then who speaks and what."""
    layout = paragraph.paragraph_format
    layout.left_indent, layout.first_line_indent = TIME_COLUMN, -TIME_COLUMN
    layout.tab_stops.add_tab_stop(TIME_COLUMN)
    time = paragraph.add_run(f"{hours_clock(turn[0].start_s)}\t")
    time.font.color.rgb, time.font.size = GREY, Pt(9)
    if names_speaker:
        paragraph.add_run(f"{_plain(turn[0].speaker)}: ").bold = True
    paragraph.add_run(_plain(" ".join(utterance.text for utterance in turn)))


def _number_pages(section: Section) -> None:
    footer = section.footer.paragraphs[0]
    footer.alignment = WD_ALIGN_PARAGRAPH.CENTER
    field = OxmlElement("w:fldSimple")
    field.set(qn("w:instr"), "PAGE")
    footer._p.append(field)
