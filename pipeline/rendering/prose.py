"""Text in paragraphs for readers, and JSON with everything for programs."""

import json
from typing import Any

from nightscribe.rendering.document import Document, RenderingConfig, one_line
from nightscribe.rendering.utterances import Utterance, paragraphs, utterances


def render_text(document: Document, config: RenderingConfig) -> str:
    """Paragraphs with an empty line between; with several speakers each names its own."""
    written = []
    for paragraph in paragraphs(utterances(document, config), config):
        speaker = f"{one_line(paragraph[0].speaker)}: " if document.names_speakers else ""
        written.append(speaker + " ".join(utterance.text for utterance in paragraph) + "\n")
    return "\n".join(written)


def render_json(document: Document, config: RenderingConfig) -> str:
    """Utterances with their words, times and confidences at full precision."""
    spoken = utterances(document, config)
    content = {
        "name": document.name,
        "speakers": [speaker.name for speaker in document.speakers],
        "text": " ".join(utterance.text for utterance in spoken),
        "utterances": [_utterance(utterance) for utterance in spoken],
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _utterance(utterance: Utterance) -> dict[str, Any]:
    return {
        "speaker": utterance.speaker,
        "start_s": utterance.start_s,
        "end_s": utterance.end_s,
        "text": utterance.text,
        "words": [
            {
                "text": word.text,
                "start_s": word.start_s,
                "end_s": word.end_s,
                "confidence": word.confidence,
            }
            for word in utterance.words
        ],
    }
