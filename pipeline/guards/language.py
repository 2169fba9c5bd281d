"""Which language a transcript is in, and whether that is the one it should be in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Finding, Word, primary_language


@dataclass(frozen=True, slots=True)
class LanguageHeard:
    """The likeliest language of some text, as an ISO 639 code."""

    code: str
    probability: float


def language_heard(words: Sequence[Word], config: GuardsConfig) -> LanguageHeard | None:
    """The language of the words; None where too few of them say anything about it."""
    if len(words) < config.min_language_words:
        return None
    code, probability = _identifier().classify(" ".join(word.text for word in words))
    return LanguageHeard(code, float(probability))


def language_mismatch(
    words: Sequence[Word], expected: str | None, config: GuardsConfig
) -> list[Finding]:
    """One finding over all words where they are surely not in the expected language."""
    heard = language_heard(words, config)
    if not expected or heard is None or heard.probability < config.min_language_probability:
        return []
    if heard.code == primary_language(expected):
        return []
    detail = f"sounds like {heard.code} ({heard.probability:.0%}), expected {expected}"
    end_s = max(word.end_s for word in words)
    return [Finding("language", words[0].start_s, end_s, detail)]


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
