"""The records of the pipeline: frozen, validated when they are made, without heavy imports."""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

STATUSES = ("ok", "redecoded", "empty", "partial")

ID_HEX_DIGITS = 20


class Span(NamedTuple):
    """A span of time, in seconds from the same zero as the words beside it."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times, in seconds of its recording."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    speaker: str | None = None  # where speakers are told apart

    def __post_init__(self) -> None:
        if not 0 <= self.start_s <= self.end_s:
            raise ValueError(f"word {self.text!r} spans {self.start_s}..{self.end_s} s")

    def at(self, start_s: float, end_s: float) -> "Word":
        """The same word at other times; `replace` would take five times as long."""
        return Word(self.text, start_s, end_s, self.confidence, self.speaker)


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice within a few seconds: where it speaks, and what it sounds like."""

    spans: tuple[Span, ...]  # in order
    clean_s: float  # how much of them it speaks alone
    vector: bytes = field(repr=False)  # float16, of length 1


@dataclass(frozen=True, slots=True)
class SpeakerSpan:
    """A span in which one speaker speaks; spans of different speakers may overlap."""

    speaker: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Speaker:
    """A speaker of one recording, and how much it speaks."""

    name: str
    duration_s: float
    num_words: int
    vector: bytes = field(default=b"", repr=False)  # float32, of length 1; empty: not known here


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One input file, or one channel or span of it: one row of the result."""

    uri: str
    size_bytes: int
    version: str  # differs whenever the bytes may have changed: the ETag, or size and mtime
    channel: int | None = None  # None: all channels, mixed
    num_channels: int | None = None  # the number of recordings that the file became, if it is split
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the file
    expected_s: float | None = None  # the duration, where the manifest has it
    language: str | None = None
    domain: str | None = None
    text: str | None = None  # the reference transcript, where the manifest has it
    cuts_s: tuple[float, ...] = ()  # additional cuts in the file, where the manifest has them
    revision: int = 1  # number of the generation of the plan that asks for this transcript
    prompt: str | None = None  # text that the model gets ahead of it
    prompt_audio: str | None = None  # audio file that is encoded ahead of it
    terms: tuple[str, ...] = ()  # names and rare words that decoding prefers in it
    num_speakers: int | None = None  # where the manifest has it
    extra: str | None = None  # other columns of the manifest, as JSON

    def __post_init__(self) -> None:
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"{self.uri}: channels count from 0, got channel {self.channel}")
        if self.num_speakers is not None and self.num_speakers < 1:
            raise ValueError(f"{self.uri}: num_speakers must be 1 or more, got {self.num_speakers}")
        if not 0 <= self.start_s < (float("inf") if self.end_s is None else self.end_s):
            raise ValueError(
                f"{self.uri}: start is {self.start_s:g} and end is {self.end_s}; expected "
                "0 <= start < end"
            )

    @property
    def path(self) -> str:
        """The location as people know it: a path for a file:// name, else the uri."""
        return path_of(self.uri)

    @property
    def folder(self) -> str:
        """The folder of the file; of a bucket with its s3://."""
        return self.path.rpartition("/")[0] or "/"

    @property
    def source_id(self) -> str:
        """The same for every channel of one span of one version of a file."""
        identity = json.dumps([self.uri, self.version, self.start_s, self.end_s])
        return hashlib.sha256(identity.encode()).hexdigest()[:ID_HEX_DIGITS]

    @property
    def recording_id(self) -> str:
        """An id that depends on content alone, never on order, machine or worker."""
        return self.source_id if self.channel is None else f"{self.source_id}-{self.channel}"

    def split(self, num_channels: int) -> tuple["Recording", ...]:
        """One recording for each channel of the file."""
        return tuple(
            replace(self, channel=channel, num_channels=num_channels)
            for channel in range(num_channels)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRecording:
    """A recording and its place in the plan."""

    recording: Recording
    window: int
    estimated_s: float
    duplicate_of: str | None = None  # an earlier recording with the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A span of one recording: the input of the model, and the part of it whose words it owns.

    Samples count from the first sample of the recording.
    """

    recording: Recording
    index: int
    sample_rate_hz: int
    start_sample: int
    end_sample: int
    owned_start_sample: int
    owned_end_sample: int
    is_last: bool
    damage: str | None = None  # why the recording is incomplete; known with its last shard

    def __post_init__(self) -> None:
        bounds = (
            self.start_sample,
            self.owned_start_sample,
            self.owned_end_sample,
            self.end_sample,
        )
        if bounds != tuple(sorted(bounds)) or self.start_sample < 0:
            raise ValueError(f"shard {self.shard_id} has unordered bounds {bounds}")
        if self.index == 0 and self.owned_start_sample != 0:
            raise ValueError(f"shard {self.shard_id} does not own the first samples")

    @property
    def shard_id(self) -> str:
        return shard_id(self.recording.recording_id, self.index)

    @property
    def start_s(self) -> float:
        return self.start_sample / self.sample_rate_hz

    @property
    def end_s(self) -> float:
        return self.end_sample / self.sample_rate_hz

    @property
    def owned_s(self) -> float:
        """The seconds of the recording that this shard owns."""
        return (self.owned_end_sample - self.owned_start_sample) / self.sample_rate_hz


def path_of(uri: str) -> str:
    """The path that a file:// name stands for, as text that can be stored; any other uri as it is.

    Bytes that are not UTF-8 are escaped, so only the uri itself opens every file.
    """
    if not uri.startswith("file://"):
        return uri
    return unquote_to_bytes(uri.removeprefix("file://")).decode(errors="backslashreplace")


def shard_id(recording_id: str, index: int) -> str:
    """The name of a shard, as `Shard.shard_id` has it."""
    return f"{recording_id}/{index:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTranscript:
    """The transcript of one shard; times count from the shard's first sample."""

    shard: Shard
    words: tuple[Word, ...]
    model: str
    model_revision: str
    tokens: tuple[int, ...] = ()  # one per step, where the run keeps them
    token_confidences: tuple[float, ...] = ()
    speech: tuple[Span, ...] = ()  # spans of speech, by loudness
    turn_ends_s: tuple[float, ...] = ()  # where the model detects the end of a turn
    num_redecoded: int = 0  # stalled spans whose words come from a retry
    voices: tuple[Voice, ...] = ()  # where speakers are told apart

    @property
    def recording(self) -> Recording:
        return self.shard.recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A recording, or one shard of it, without a transcript, and why."""

    recording: Recording
    stage: str  # fetch, decode, transcribe, ...
    reason: str  # a code such as not_found or no_audio
    detail: str  # one sentence, free of secrets
    attempts: int = 1
    shard: Shard | None = None  # None: the whole recording
    duplicate_of: str | None = None  # the recording with the same bytes that was tried

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.reason):
            raise ValueError(f"a reason is a code such as not_found, got {self.reason!r}")


def primary_language(tag: str) -> str:
    """The language of a tag such as fr-CA, without country and script."""
    return tag.lower().replace("_", "-").split("-")[0]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that a guard found, where, and why in one sentence."""

    guard: str
    start_s: float
    end_s: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What the guards measured in one transcript; each field is a column of it."""

    speech_s: float
    uncovered_speech_s: float
    num_stalls: int
    num_looped_words: int
    num_silent_words: int
    num_simultaneous_words: int
    detected_language: str | None
    is_language_mismatched: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The words of one recording; times count from the beginning of its file."""

    recording: Recording
    duration_s: float
    status: str
    words: tuple[Word, ...]
    num_shards: int
    model: str
    model_revision: str
    reasons: tuple[str, ...] = ()  # why the status is not ok
    speech: tuple[Span, ...] = ()
    turn_ends_s: tuple[float, ...] = ()
    num_redecoded: int = 0
    duplicate_of: str | None = None  # the recording with the same bytes that was transcribed
    voices: tuple[Voice, ...] = ()  # until the speakers are told apart
    speakers: tuple[Speaker, ...] = ()  # in the order in which they first speak
    speaker_spans: tuple[SpeakerSpan, ...] = ()  # who speaks when, by start
    inspection: Inspection | None = None  # None: not inspected by the guards

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}, got {self.status!r}")

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)
