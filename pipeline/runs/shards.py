"""The shards of a run on their way: what is read of a recording, and what is made of each shard."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nightscribe.records import Failure, Recording, Shard, ShardTranscript, Span, primary_language
from nightscribe.storage.locations import S3Config
from nightscribe.storage.rows import Outcome
from nightscribe.transcription.clips import Clip, ClipTranscript


@dataclass(frozen=True, slots=True, eq=False)
class CutShard:
    """A shard, its samples, and its spans of speech in seconds of the shard."""

    shard: Shard
    samples_N: NDArray[np.int16] = field(repr=False)
    speech: tuple[Span, ...] = ()


Cut = CutShard | Failure


# Yields the shards of a recording in order; turns every fault of the recording into a Failure.
Reader = Callable[[Recording], Iterator[Cut]]


def cuts_left(read: Reader, recording: Recording, done_ids: frozenset[str]) -> Iterator[Cut]:
    """The shards that are not done; an error that no reader expects is a failure, too."""
    try:
        for cut in read(recording):
            if not _is_done(cut, done_ids):
                yield cut
    except Exception as error:
        yield Failure(
            recording=recording,
            stage="decode",
            reason="unexpected",
            detail=f"{type(error).__name__}: {error}",
        )


def _is_done(cut: Cut, done_ids: frozenset[str]) -> bool:
    recording = cut.shard.recording if isinstance(cut, CutShard) else cut.recording
    return recording.recording_id in done_ids or (
        isinstance(cut, CutShard) and cut.shard.shard_id in done_ids
    )


def name_of(cut: Cut) -> str:
    return cut.shard.shard_id if isinstance(cut, CutShard) else cut.recording.recording_id


def num_words(outcome: Outcome) -> int:
    return 0 if isinstance(outcome, Failure) else len(outcome.words)


def transcribed_s(outcome: Outcome) -> float:
    """The seconds of the recording that an outcome owns; 0 if it failed."""
    return 0.0 if isinstance(outcome, Failure) else outcome.shard.owned_s


class ClipTranscriber(Protocol):
    """What a worker needs of a `Transcriber`."""

    model: str
    model_revision: str

    @property
    def has_died(self) -> bool: ...

    @property
    def stats(self) -> Any:
        """Those of its engine."""

    def submit(self, clip: Any) -> Future[Any]: ...


class ShardTask(Protocol):
    """What a worker makes of each shard: the input of its transcriber, and a row of the result."""

    @property
    def stage(self) -> str:
        """Its name in failures."""

    def clip(self, cut: CutShard) -> Any: ...

    def shard_transcript(
        self, cut: CutShard, transcript: Any, model: str, model_revision: str
    ) -> ShardTranscript: ...

    def cause(self, error: Exception) -> tuple[str, str]:
        """A code and a sentence for a shard that the transcriber refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """What a worker adds to each shard, and what it keeps of the result."""

    stage: str = "transcribe"
    keep_tokens: bool = False
    language_prompts: Mapping[str, Any] = field(default_factory=dict)  # Prompts, by language
    read_prompt: Callable[[str, str | None], Any] | None = None  # a text and a file of a manifest

    def clip(self, cut: CutShard) -> Clip:
        recording = cut.shard.recording
        return Clip(
            clip_id=cut.shard.shard_id,
            samples_N=cut.samples_N,
            domain=recording.domain,
            prompt=self._prompt(recording),
            terms=recording.terms,
            speech=cut.speech,
        )

    def _prompt(self, recording: Recording) -> Any:
        """Of the recording, where the manifest has one, else that of its language."""
        spoken = self.language_prompts.get(primary_language(recording.language or ""))
        if recording.prompt is None and recording.prompt_audio is None:
            return spoken
        if self.read_prompt is None:
            raise ValueError(f"{recording.uri}: this worker reads no prompts of manifests")
        return self.read_prompt(recording.prompt or "", recording.prompt_audio)

    def shard_transcript(
        self, cut: CutShard, transcript: ClipTranscript, model: str, model_revision: str
    ) -> ShardTranscript:
        stored = slice(None) if self.keep_tokens else slice(0)
        return ShardTranscript(
            shard=cut.shard,
            words=transcript.words,
            tokens=tuple(transcript.tokens_T[stored].tolist()),
            token_confidences=tuple(transcript.confidences_T[stored].tolist()),
            speech=cut.speech,
            turn_ends_s=transcript.turn_ends_s,
            voices=transcript.voices,
            num_redecoded=transcript.num_redecoded,
            model=model,
            model_revision=model_revision,
        )

    def cause(self, error: Exception) -> tuple[str, str]:
        return "not_transcribed", f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What a run is worked with; Ray pickles the functions and sends them to its workers."""

    read: Reader
    make_transcriber: Callable[[], ClipTranscriber]
    output: str
    s3: S3Config
    shards: ShardTask = field(default_factory=ShardOptions)
    max_shard_s: float | None = 60.0  # None: recordings are never cut
