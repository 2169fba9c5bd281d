"""SubRip and WebVTT subtitles; WebVTT carries the start of every word inside its cues."""

from html import escape

from nightscribe.records import Word
from nightscribe.rendering.cues import Cue, cues
from nightscribe.rendering.document import Document, RenderingConfig, milliseconds, one_line


def render_srt(document: Document, config: RenderingConfig) -> str:
    blocks = [
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        f"{_srt_text(cue, document.names_speakers)}\n"
        for number, cue in enumerate(cues(document, config), start=1)
    ]
    return "\n".join(blocks)


def render_vtt(document: Document, config: RenderingConfig) -> str:
    blocks = [
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        f"{_vtt_text(cue, document.names_speakers)}\n"
        for cue in cues(document, config)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _srt_text(cue: Cue, names_speaker: bool) -> str:
    lines = [" ".join(one_line(word.text) for word in line) for line in cue.lines]
    speaker = f"{one_line(cue.speaker)}: " if names_speaker else ""
    return speaker + "\n".join(lines)


def _vtt_text(cue: Cue, names_speaker: bool) -> str:
    voice = f"<v {escape(one_line(cue.speaker), quote=False)}>" if names_speaker else ""
    last_ms = cue.start_ms
    lines = []
    for line in cue.lines:
        texts = []
        for word in line:
            texts.append(_word_text(word, last_ms))
            last_ms = max(last_ms, milliseconds(word.start_s))
        lines.append(" ".join(texts))
    return voice + "\n".join(lines)


def _word_text(word: Word, last_ms: int) -> str:
    """The word after its start time, which WebVTT requires to increase."""
    text = escape(one_line(word.text), quote=False)
    start_ms = milliseconds(word.start_s)
    return f"<{_clock(start_ms, '.')}><c>{text}</c>" if start_ms > last_ms else f"<c>{text}</c>"


def _clock(time_ms: int, decimal_mark: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{ms:03}"
