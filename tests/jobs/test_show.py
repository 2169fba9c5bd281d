"""How `nightscribe show` tells speakers apart."""

from nightscribe.jobs.show import _lines
from nightscribe.records import Word
from nightscribe.rendering.document import Document, RenderingConfig, Speaker

CONFIG = RenderingConfig()


def name_styles(document):
    """The style of the name in each line."""
    return [
        str(span.style)
        for line in _lines(document, CONFIG)
        for span in line.spans
        if line.plain[span.start : span.end].endswith(": ")
    ]


def speaker(name, start_s):
    return Speaker(name, (Word("so", start_s, start_s + 0.5, 0.95),))


def test_each_speaker_has_a_colour_of_its_own():
    talk = Document("talk", (speaker("Ann", 0.0), speaker("Ben", 2.0), speaker("Cy", 4.0)))
    assert len(set(name_styles(talk))) == len(name_styles(talk)) == 3


def test_a_monologue_names_nobody():
    assert name_styles(Document("talk", (speaker("Ann", 0.0),))) == []
