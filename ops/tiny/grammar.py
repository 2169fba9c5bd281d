"""Sentences of the small model's vocabulary, drawn so that all words are about equally frequent.

A model of this size needs some two hundred utterances of a word; with natural frequencies most
words would be too rare. A phrase is the one of a few drawn from the grammar whose words are rarest
so far; lists and word salads are made of the rarest words.
"""

from collections.abc import Iterator, Sequence

import numpy as np

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
]
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
LETTERS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
]
UNITS = [
    "degrees",
    "miles",
    "kilometers",
    "hours",
    "minutes",
    "seconds",
    "days",
    "percent",
    "pounds",
    "euros",
    "dollars",
]
KEYS = [
    "pound",
    "star",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
]
COMMANDS = (
    "press {key} to leave a message",
    "please enter your password followed by the pound key",
    "to hear the menu again press {key}",
    "you have {number} new messages",
    "the number you have entered is not available",
    "please try your call again",
    "turn the light {switch}",
    "set the alarm for {clock}",
    "set a timer for {number} minutes",
    "play the next message",
    "call me back at {digits}",
    "the meeting is on {weekday} the {ordinal} of {month}",
    "it is {number} degrees {partofday}",
    "please hold while i try that extension",
    "extension {digits} is busy",
    "your call has been saved",
    "goodbye and thank you",
    "turn the volume {direction}",
    "{letters}",
    "{digits}",
    "{number} {unit}",
    "{money}",
    "{clock} {weekday}",
    "{month} {ordinal}",
    # Short words as they are said in passing, which alone sound like others or like nothing.
    "press {key} to {do} {thing}",
    "press {key} for {thing} or {key} for {thing}",
    "to {do} {thing} press {key}",
    "to {do} {thing} or to {do} {thing}",
    "please {do} {thing}",
    "please {do} {thing} followed by the {key} key",
    "{thing} from {thing}",
    "{thing} is at the hotel",
    "{thing} has been {done}",
    "a message for the person at extension {digits}",
    "send {thing} to {thing}",
    "a {thing_without_article} and a {thing_without_article}",
    "{thing} will be {done} on {weekday}",
    "from {clock} to {clock}",
    "from {weekday} to {weekday} in the {part}",
)
VERBS = [
    "answer",
    "cancel",
    "close",
    "delete",
    "enter",
    "leave",
    "open",
    "pause",
    "play",
    "repeat",
    "save",
    "send",
    "set",
    "start",
    "stop",
    "use",
    "hold",
    "call",
    "try",
]
DONE = ["saved", "removed", "busy", "available", "incorrect", "invalid", "open", "on hold"]
NOUNS = [
    "message",
    "messages",
    "call",
    "caller",
    "number",
    "password",
    "mailbox",
    "menu",
    "meeting",
    "conference",
    "extension",
    "alarm",
    "timer",
    "light",
    "music",
    "line",
    "person",
    "key",
]
ARTICLES = ["the", "the", "a", "your", "this", "that"]
WHICH = ["new", "old", "next", "previous", "first", "second", "third", "invalid"]
KINDS = ("isolated", "list", "salad", "phrase")
KIND_SHARES = (0.10, 0.15, 0.31, 0.44)
NUM_CANDIDATES = 9
# Said only inside phrases: alone they sound like other words.
PHRASE_ONLY = frozenset({"a", "m", "p", "to", "for"})
# Said in passing, each time a little differently: they are needed more often than other words.
PASSING = frozenset({"a", "and", "at", "for", "from", "is", "of", "on", "or", "the", "to"})
PASSING_COUNT = 1 / 3


class Grammar:
    """Draws utterances over a vocabulary, each of a kind, in an order that stays balanced."""

    def __init__(self, vocabulary: Sequence[str], seed: int) -> None:
        self.vocabulary = list(vocabulary)
        self.counts: dict[str, float] = dict.fromkeys(self.vocabulary, 0.0)
        self._rng = np.random.default_rng(seed)
        self._known = set(vocabulary)

    def draw(self, count: int) -> Iterator[tuple[str, str]]:
        """So many texts, each with its kind."""
        for _ in range(count):
            kind = KINDS[self._rng.choice(len(KINDS), p=KIND_SHARES)]
            words = self._phrase() if kind == "phrase" else self._neediest(kind)
            for word in words:
                self.counts[word] += PASSING_COUNT if word in PASSING else 1
            yield " ".join(words), kind

    def _neediest(self, kind: str) -> list[str]:
        lengths = {"isolated": (1, 2), "list": (3, 8), "salad": (4, 12)}[kind]
        length = int(self._rng.integers(*lengths))
        sayable = [word for word in self.vocabulary if word not in PHRASE_ONLY]
        self._rng.shuffle(sayable)
        words = sorted(sayable, key=lambda word: self.counts[word])[:length]
        self._rng.shuffle(words)
        return words

    def _phrase(self) -> list[str]:
        """The candidate whose words are needed most."""
        candidates = [self._candidate() for _ in range(NUM_CANDIDATES)]
        known = [words for words in candidates if self._known.issuperset(words)]
        most = max(self.counts.values())
        return max(
            known or [self._neediest("list")],
            key=lambda words: np.mean([most - self.counts[word] for word in words]),
        )

    def _candidate(self) -> list[str]:
        pattern = COMMANDS[self._rng.integers(len(COMMANDS))]
        return pattern.format_map(_Slots(self._rng)).split()


class _Slots(dict):
    """The blanks of a pattern, filled when they are read."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self._rng = rng

    def __missing__(self, slot: str) -> str:
        return getattr(self, f"_{slot}")()

    def _one(self, words: Sequence[str]) -> str:
        return words[int(self._rng.integers(len(words)))]

    def _several(self, words: Sequence[str], least: int, most: int) -> str:
        return " ".join(self._one(words) for _ in range(self._rng.integers(least, most + 1)))

    def _digits(self) -> str:
        return self._several([*DIGITS, "oh"], 3, 8)

    def _letters(self) -> str:
        return self._several(LETTERS, 2, 5)

    def _number(self) -> str:
        tens = f"{self._one(TENS)} {self._one(DIGITS[1:])}"
        small = self._one([*DIGITS[1:], *TEENS, *TENS, tens])
        return self._one([small, f"{self._one(DIGITS[1:])} hundred", f"{small} thousand"])

    def _ordinal(self) -> str:
        tens = self._one(["twenty", "thirty"])
        return self._one([*ORDINALS, f"{tens} {self._one(ORDINALS[:9])}", "thirtieth"])

    def _clock(self) -> str:
        hour = self._one([*DIGITS[1:], *TEENS[:3]])
        return self._one([f"{hour} o'clock", f"half past {hour}", f"{hour} {self._one('ap')} m"])

    def _money(self) -> str:
        return f"{self._number()} dollars and {self._one([*TEENS, *TENS])} cents"

    def _key(self) -> str:
        return self._one(KEYS)

    def _unit(self) -> str:
        return self._one(UNITS)

    def _month(self) -> str:
        return self._one(MONTHS)

    def _weekday(self) -> str:
        return self._one(WEEKDAYS)

    def _switch(self) -> str:
        return self._one(["on", "off"])

    def _direction(self) -> str:
        return self._one(["up", "down"])

    def _do(self) -> str:
        return self._one(VERBS)

    def _done(self) -> str:
        return self._one(DONE)

    def _thing(self) -> str:
        return f"{self._one(ARTICLES)} {self._thing_without_article()}"

    def _thing_without_article(self) -> str:
        noun = self._one(NOUNS)
        return noun if self._rng.random() < 0.6 else f"{self._one(WHICH)} {noun}"

    def _part(self) -> str:
        return self._one(["morning", "afternoon", "evening"])

    def _partofday(self) -> str:
        return self._one(["this morning", "this afternoon", "this evening", "tonight"])
