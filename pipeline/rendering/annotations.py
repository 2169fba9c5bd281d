"""Formats of annotation tools: RTTM of NIST, TextGrid of Praat and EAF of ELAN."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from mimetypes import guess_type
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    Speaker,
    milliseconds,
    one_line,
    utterances,
    written_words,
)

UNNAMED = "speaker"
EAF_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


class Interval(NamedTuple):
    """A piece of text and its time."""

    start_ms: int
    end_ms: int
    text: str


class Tier(NamedTuple):
    """Intervals of one kind, in order and without overlap."""

    name: str
    intervals: list[Interval]


def render_rttm(document: Document, config: RenderingConfig) -> str:
    """A row for each span of a speaker, by start: where it speaks, or else its utterances."""
    recording = one_token(document.name) or "recording"
    rows = [
        (interval.start_ms, interval.end_ms, channel_of(speaker, place), name)
        for place, speaker, name in _named(document)
        for interval in _heard(document, speaker, config)
    ]
    return "".join(
        f"SPEAKER {recording} {channel} {start_ms / 1000:.3f} {(end_ms - start_ms) / 1000:.3f} "
        f"<NA> <NA> {one_token(name)} <NA> <NA>\n"
        for start_ms, end_ms, channel, name in sorted(rows)
    )


def render_textgrid(document: Document, config: RenderingConfig) -> str:
    """Two tiers for each speaker, its utterances and its words; gaps are empty intervals.

    They are as long as the recording: Praat shows them beside it.
    """
    tiers = list(_tiers(document, config))
    ends_ms = [tier.intervals[-1].end_ms for tier in tiers if tier.intervals]
    end_ms = max(1, milliseconds(document.duration_s), *ends_ms)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end_ms / 1000:.3f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, tier in enumerate(tiers, start=1):
        lines += _textgrid_tier(number, tier, end_ms)
    return "\n".join(lines) + "\n"


def render_eaf(document: Document, config: RenderingConfig) -> str:
    """The same tiers as time-aligned annotations."""
    tiers = list(_tiers(document, config))
    times_ms = sorted({ms for tier in tiers for one in tier.intervals for ms in one[:2]})
    slot_of = {ms: f"ts{number}" for number, ms in enumerate(times_ms, start=1)}
    slots = "".join(
        f'  <TIME_SLOT TIME_SLOT_ID="{slot}" TIME_VALUE="{ms}"/>\n' for ms, slot in slot_of.items()
    )
    numbers = iter(range(1, 1 + sum(len(tier.intervals) for tier in tiers)))
    annotated = "".join(_eaf_tier(tier, slot_of, numbers) for tier in tiers)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ANNOTATION_DOCUMENT AUTHOR="" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" '
        'VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:noNamespaceSchemaLocation="{EAF_SCHEMA}">\n'
        f' <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{_media(document.uri)}</HEADER>\n'
        f" <TIME_ORDER>\n{slots} </TIME_ORDER>\n{annotated}"
        ' <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default" TIME_ALIGNABLE="true" '
        'GRAPHIC_REFERENCES="false"/>\n'
        "</ANNOTATION_DOCUMENT>\n"
    )


def _media(uri: str) -> str:
    """The recording that ELAN opens with its annotations, where it is a file."""
    if uri.startswith("/"):
        uri = "file://" + quote(uri)
    if not uri.startswith("file://"):
        return ""
    kind = guess_type(uri)[0] or "unknown"
    name = uri.rpartition("/")[2]
    return (
        f"<MEDIA_DESCRIPTOR MEDIA_URL={quoteattr(uri)} MIME_TYPE={quoteattr(kind)} "
        f"RELATIVE_MEDIA_URL={quoteattr('./' + name)}/>"
    )


def one_token(text: str) -> str:
    """A name as one field of a row whose fields are separated by spaces."""
    # A row that starts with two semicolons is a comment.
    return "_".join(one_line(text).split()).lstrip(";")


def channel_of(speaker: Speaker, place: int) -> int:
    """The channel of the speaker, from 1; without one its place."""
    return place if speaker.channel is None else speaker.channel + 1


def _named(document: Document) -> Iterator[tuple[int, Speaker, str]]:
    for place, speaker in enumerate(document.speakers, start=1):
        yield place, speaker, one_line(speaker.name) or UNNAMED


def _heard(document: Document, speaker: Speaker, config: RenderingConfig) -> list[Interval]:
    if speaker.spans:
        return [
            Interval(milliseconds(start_s), milliseconds(end_s), "")
            for start_s, end_s in speaker.spans
        ]
    return _utterances(document, speaker, config)


def _utterances(document: Document, speaker: Speaker, config: RenderingConfig) -> list[Interval]:
    alone = Document(document.name, (speaker,))
    return _apart(
        Interval(milliseconds(one.start_s), milliseconds(one.end_s), one.text)
        for one in utterances(alone, config)
    )


def _tiers(document: Document, config: RenderingConfig) -> Iterator[Tier]:
    for _, speaker, name in _named(document):
        words = [
            Interval(milliseconds(word.start_s), milliseconds(word.end_s), one_line(word.text))
            for word in written_words(speaker, config)
        ]
        yield Tier(name, _utterances(document, speaker, config))
        yield Tier(f"{name} words", _apart(words))


def _apart(intervals: Iterable[Interval]) -> list[Interval]:
    """Each ends where the next one starts at the latest, and lasts at least a millisecond."""
    moved: list[Interval] = []
    for one in intervals:
        start_ms = max(one.start_ms, moved[-1].start_ms + 1 if moved else 0)
        moved.append(Interval(start_ms, max(one.end_ms, start_ms + 1), one.text))
    return [
        one._replace(end_ms=min(one.end_ms, following.start_ms))
        for one, following in pairwise([*moved, *(moved[-1:] and [_after(moved[-1])])])
    ]


def _after(last: Interval) -> Interval:
    return Interval(last.end_ms, last.end_ms, "")


def _textgrid_tier(number: int, tier: Tier, end_ms: int) -> list[str]:
    filled = list(_filled(tier.intervals, end_ms))
    lines = [
        f"    item [{number}]:",
        '        class = "IntervalTier"',
        f"        name = {_praat(tier.name)}",
        "        xmin = 0",
        f"        xmax = {end_ms / 1000:.3f}",
        f"        intervals: size = {len(filled)}",
    ]
    for place, one in enumerate(filled, start=1):
        lines += [
            f"        intervals [{place}]:",
            f"            xmin = {one.start_ms / 1000:.3f}",
            f"            xmax = {one.end_ms / 1000:.3f}",
            f"            text = {_praat(one.text)}",
        ]
    return lines


def _filled(intervals: Sequence[Interval], end_ms: int) -> Iterator[Interval]:
    """Praat wants every tier filled from its start to its end."""
    before_ms = 0
    for one in intervals:
        if one.start_ms > before_ms:
            yield Interval(before_ms, one.start_ms, "")
        yield one
        before_ms = one.end_ms
    if before_ms < end_ms:
        yield Interval(before_ms, end_ms, "")


def _praat(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _eaf_tier(tier: Tier, slot_of: dict[int, str], numbers: Iterator[int]) -> str:
    annotations = "".join(
        f'  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{next(numbers)}" '
        f'TIME_SLOT_REF1="{slot_of[one.start_ms]}" TIME_SLOT_REF2="{slot_of[one.end_ms]}">'
        f"<ANNOTATION_VALUE>{escape(one.text)}</ANNOTATION_VALUE>"
        "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
        for one in tier.intervals
    )
    name = quoteattr(tier.name)
    return f' <TIER LINGUISTIC_TYPE_REF="default" TIER_ID={name}>\n{annotations} </TIER>\n'
