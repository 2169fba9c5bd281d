"""What the workers of a run run where texts are spoken: texts instead of clips, files beside words.

Everything else is the same as for transcripts: plan, packets, commits, failures and publishing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from nightscribe.planning import estimated_s
from nightscribe.records import Recording, Shard, ShardTranscript, Word
from nightscribe.runs.shards import ClipTranscriber, Cut, CutShard, Stages
from nightscribe.speech.requests import FileTask, NotSpokenError, SpokenFile
from nightscribe.speech.texts import audio_key, request_of
from nightscribe.storage.locations import S3Config

STAGE = "speak"
ESTIMATE_RATE_HZ = 1000  # of the length of a text that nobody has spoken yet
SURE = 1.0  # nobody doubts the words of a text


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTask:
    """What a worker makes of each text."""

    extension: str
    stage: str = STAGE

    def clip(self, cut: CutShard) -> FileTask:
        request = request_of(cut.shard.recording)
        return FileTask(request=request, key=audio_key(request.request_id, self.extension))

    def shard_transcript(
        self, cut: CutShard, spoken: SpokenFile, model: str, model_revision: str
    ) -> ShardTranscript:
        """The words of the text, at the times at which they are spoken."""
        num_samples = spoken.num_samples
        shard = replace(
            cut.shard,
            sample_rate_hz=spoken.sample_rate_hz,
            end_sample=num_samples,
            owned_end_sample=num_samples,
        )
        words = (Word(word.text, word.start_s, word.end_s, SURE) for word in spoken.words)
        return ShardTranscript(
            shard=shard, words=tuple(words), model=model, model_revision=model_revision
        )

    def cause(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, NotSpokenError):
            return error.reason, str(error)
        return "not_spoken", f"{type(error).__name__}: {error}"


def read_text(recording: Recording) -> Iterator[Cut]:
    """A text is one shard without samples, of the length that it will probably have."""
    num_samples = round(estimated_s(recording) * ESTIMATE_RATE_HZ)
    shard = Shard(
        recording=recording,
        index=0,
        sample_rate_hz=ESTIMATE_RATE_HZ,
        start_sample=0,
        end_sample=num_samples,
        owned_start_sample=0,
        owned_end_sample=num_samples,
        is_last=True,
    )
    yield CutShard(shard, np.zeros(0, np.int16))


def speech_stages(
    load: Callable[[], ClipTranscriber], extension: str, output: str, s3: S3Config
) -> Stages:
    """Of a run that speaks; `load` is pickled and called by each worker."""
    return Stages(
        read=read_text,
        make_transcriber=load,
        output=output,
        s3=s3,
        shards=TextTask(extension=extension),
        max_shard_s=None,
    )
