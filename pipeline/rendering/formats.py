"""The formats by name."""

from collections.abc import Callable

from nightscribe.rendering.document import Document, RenderingConfig
from nightscribe.rendering.prose import render_json, render_text
from nightscribe.rendering.subtitles import render_srt, render_vtt
from nightscribe.rendering.tables import render_ctm, render_tsv, render_words

Renderer = Callable[[Document, RenderingConfig], str]

FORMATS: dict[str, Renderer] = {
    "text": render_text,
    "words": render_words,
    "json": render_json,
    "srt": render_srt,
    "vtt": render_vtt,
    "ctm": render_ctm,
    "tsv": render_tsv,
}
SUFFIXES = {name: f".{name}" for name in FORMATS} | {"text": ".txt", "words": ".words.txt"}


def render(document: Document, format: str, config: RenderingConfig | None = None) -> str:
    """The document in the named format."""
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; choose from {', '.join(FORMATS)}")
    return FORMATS[format](document, config or RenderingConfig())
