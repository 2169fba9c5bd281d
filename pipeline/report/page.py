"""Renders a report as one HTML file."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from nightscribe.records import SpeakerSpan, Word
from nightscribe.report.charts import line_chart, occupancy_series, throughput_series
from nightscribe.report.content import RecordingPage, Report

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("speakers.js", "report.js")
TIME_DECIMALS = 3
CONFIDENCE_DECIMALS = 3


def render_report(report: Report) -> str:
    """The whole page, with its styles, its script, its data and its audio."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = clock
    environment.filters["amount"] = lambda amount: f"{amount:,.0f}"
    environment.filters["breakable"] = breakable
    environment.filters["folder"] = lambda name: name.rpartition("/")[0]
    environment.filters["file"] = lambda name: name.rpartition("/")[2]
    environment.filters["percent"] = lambda share: "" if share is None else f"{share:.1%}"
    return environment.get_template("report.html").render(
        report=report,
        charts=_charts(report),
        pages=[_page_data(page) for page in report.pages],
        audio={page.recording_id: _audio(page) for page in report.pages if page.audio},
        style=Markup((TEMPLATES / "report.css").read_text()),
        script=Markup("".join((TEMPLATES / name).read_text() for name in SCRIPTS)),
    )


def clock(time_s: float) -> str:
    """Hours where there are any, minutes and seconds."""
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def breakable(path: str) -> Markup:
    """A path that may break into lines after each slash."""
    return escape(path).replace("/", Markup("/<wbr>"))


def _charts(report: Report) -> dict[str, Markup]:
    return {
        "throughput": Markup(line_chart(throughput_series(report.progress))),
        "occupancy": Markup(line_chart(occupancy_series(report.progress), highest=100.0)),
    }


def _page_data(page: RecordingPage) -> dict[str, Any]:
    """What the script needs to show one recording; words are short rows."""
    return {
        "id": page.recording_id,
        "name": page.name,
        "duration_s": page.duration_s,
        "status": page.status,
        "reasons": page.reasons,
        "language": page.language,
        "wer": page.word_error_rate,
        "reference": page.reference,
        "confidence": page.confidence,
        "speakers": page.speakers,
        "words": [_word_data(word, page.speakers) for word in page.words],
        "spans": [_span_data(span, page.speakers) for span in page.speaker_spans],
        "speech": [tuple(span) for span in page.speech],
        "findings": [asdict(finding) for finding in page.findings],
        "peaks": page.audio.peaks if page.audio else [],
    }


def _word_data(word: Word, speakers: Sequence[str]) -> list[Any]:
    times = round(word.start_s, TIME_DECIMALS), round(word.end_s, TIME_DECIMALS)
    data = [word.text, *times, round(word.confidence, CONFIDENCE_DECIMALS)]
    return [*data, speakers.index(word.speaker)] if word.speaker in speakers else data


def _span_data(span: SpeakerSpan, speakers: Sequence[str]) -> list[Any]:
    times = round(span.start_s, TIME_DECIMALS), round(span.end_s, TIME_DECIMALS)
    return [speakers.index(span.speaker), *times]


def _audio(page: RecordingPage) -> str:
    assert page.audio is not None
    return base64.b64encode(page.audio.mp3).decode()
