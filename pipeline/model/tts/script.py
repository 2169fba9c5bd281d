"""A text to be spoken as entries: words with their tokens, and breaks."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from nightscribe.errors import NightscribeError
from nightscribe.model.tts.config import MAIN_SPEAKER_ID, OTHER_SPEAKER_ID

UNKNOWN_ID = 0  # of a piece that the tokenizer does not have
SPEAKER_IDS = (MAIN_SPEAKER_ID, OTHER_SPEAKER_ID)
MAX_CHARACTERS = 50_000  # about an hour of speech
_REPLACED = str.maketrans({"\u2019": "'", ":": " ", "(": None, ")": None})
# Not the white space among them.
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f\ufffd\ud800-\udfff]")
_SEPARATOR = re.compile(r'<break\s+time="(?P<seconds>[0-9]+(?:.[0-9]*)?)s"\s*/?>|\s+')


class ScriptError(NightscribeError):
    """A text that cannot be spoken."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A word with its tokens, or a break without any."""

    text: str
    tokens: tuple[int, ...]
    padding: int  # steps after which the next word may begin at the earliest


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptOptions:
    """How texts become entries."""

    frame_rate_hz: float
    has_speakers: bool  # whether the model has tokens for the two speakers of a dialogue
    word_padding: int = 1


def script_entries(
    turns: Sequence[str], encode: Callable[[str], list[int]], options: ScriptOptions
) -> list[Entry]:
    """The entries of turns that alternate between two speakers, the main one first.

    Raises ScriptError for a text without any word that the model knows.
    """
    check_length(sum(map(len, turns)))
    entries: list[Entry] = []
    last_speaker = None
    for turn, text in enumerate(turns):
        speaker = turn % 2
        is_change = options.has_speakers and speaker != last_speaker
        spoken = list(turn_entries(text, encode, options, speaker, is_change))
        if any(entry.text for entry in spoken):
            last_speaker = speaker if options.has_speakers else None
        entries += spoken
    words = [entry for entry in entries if entry.tokens]
    if not words:
        raise ScriptError("the text has no word that the model can speak")
    if all(UNKNOWN_ID in word.tokens for word in words):
        raise ScriptError(
            f"the model knows the letters of no word of the text, such as {words[0].text[:20]!r}: "
            "it was made for another script"
        )
    return entries


def check_length(num_characters: int) -> None:
    """Raises ScriptError for more characters than can be spoken at once."""
    if num_characters > MAX_CHARACTERS:
        raise ScriptError(
            f"the text has {num_characters} characters, at most {MAX_CHARACTERS} can be spoken "
            "at once; split it"
        )


def turn_entries(
    text: str,
    encode: Callable[[str], list[int]],
    options: ScriptOptions,
    speaker: int,
    is_change: bool,
) -> Iterator[Entry]:
    """The entries of one turn; where the speaker changes, its first word says who speaks."""
    if found := _UNSPEAKABLE.search(text):
        raise ScriptError(f"the text has a control character (U+{ord(found[0]):04X})")
    is_named = not is_change
    for word, seconds in _words_and_breaks(text.translate(_REPLACED)):
        if word is None:
            yield Entry("", (), round(_number(seconds) * options.frame_rate_hz))
            continue
        tokens = tuple(encode(word))
        if not is_named:
            tokens, is_named = (SPEAKER_IDS[speaker], *tokens), True
        padding = max(0, options.word_padding + len(tokens) - 1) if options.word_padding else 0
        yield Entry(word, tokens, padding)


def _words_and_breaks(text: str) -> Iterator[tuple[str | None, str]]:
    """Words, and None with the seconds of each break."""
    end = 0
    for separator in _SEPARATOR.finditer(text):
        if word := text[end : separator.start()]:
            yield word, ""
        if separator["seconds"]:
            yield None, separator["seconds"]
        end = separator.end()
    if word := text[end:]:
        yield word, ""


def _number(seconds: str) -> float:
    try:
        return float(seconds)
    except ValueError:
        raise ScriptError(f'a break of "{seconds}s" is not a number of seconds') from None


@dataclass(frozen=True, slots=True)
class FlatScript:
    """Entries as flat arrays of integers, which a device can step through.

    E entries, T tokens of all entries, A tokens of the second stream.
    """

    tokens_T: tuple[int, ...]
    starts_E1: tuple[int, ...]  # where each entry's tokens start; the last is the end
    paddings_E: tuple[int, ...]
    ahead_tokens_A: tuple[int, ...]
    ahead_ends_E: tuple[int, ...]  # second-stream tokens that may be fed once an entry has begun

    @classmethod
    def of(cls, entries: Sequence[Entry], words_ahead: int) -> "FlatScript":
        words = [entry.tokens for entry in entries if entry.tokens]
        ends_W1 = (0, *accumulate(map(len, words)))
        num_words, first = len(words), min(words_ahead, len(words))
        ranks = accumulate(bool(entry.tokens) for entry in entries)
        ahead_ends = (
            ends_W1[min(rank + words_ahead, num_words)] - ends_W1[first] for rank in ranks
        )
        return cls(
            tuple(token for tokens in words for token in tokens),
            (0, *accumulate(len(entry.tokens) for entry in entries)),
            tuple(entry.padding for entry in entries),
            tuple(token for tokens in words[first:] for token in tokens),
            tuple(ahead_ends),
        )


def max_steps(entries: Sequence[Entry], max_padding: int, has_second_stream: bool) -> int:
    """A bound of the steps until the end of a text, whatever the model predicts."""
    steps = max_padding + 1
    for entry in entries:
        num_fed = len(entry.tokens) + (0 if has_second_stream else 1)
        steps += max(num_fed, entry.padding + 1) + (max_padding + 1 if entry.tokens else 0)
    return steps
