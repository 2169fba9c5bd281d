"""The columns of every table a run writes, and what they mean.

The meanings travel inside the files, beside the version of the schema.
"""

from collections.abc import Mapping

import pyarrow as pa

SCHEMA_VERSION = 2

Columns = Mapping[str, tuple[pa.DataType, str]]


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


WORD = _struct(
    text=pa.string(),
    start_s=pa.float64(),
    end_s=pa.float64(),
    confidence=pa.float32(),
    speaker=pa.string(),
)
FINDING = _struct(guard=pa.string(), start_s=pa.float64(), end_s=pa.float64(), detail=pa.string())
SPAN = _struct(start_s=pa.float64(), end_s=pa.float64())
SPEAKER = _struct(name=pa.string(), duration_s=pa.float64(), num_words=pa.int64())
SPEAKER_SPAN = _struct(speaker=pa.string(), start_s=pa.float64(), end_s=pa.float64())
VOICE = _struct(spans=pa.list_(SPAN), clean_s=pa.float64(), vector=pa.binary())

# Where a recording lies, whatever the bytes of its file are.
PLACE_COLUMNS = ["uri", "start_s", "end_s", "channel"]

RECORDING: Columns = {
    "uri": (pa.string(), "name of the file"),
    "size_bytes": (pa.int64(), "size of the file"),
    "version": (pa.string(), "ETag, or size and time of change, of the file that was read"),
    "channel": (pa.int32(), "channel of the file, from 0; null: all channels mixed"),
    "num_channels": (pa.int32(), "recordings the file became, where its channels were split"),
    "start_s": (pa.float64(), "where in the file the recording starts"),
    "end_s": (pa.float64(), "where in the file the recording was asked to end; null: at its end"),
    "expected_s": (pa.float64(), "duration of the recording by the manifest"),
    "language": (pa.string(), "language the manifest names"),
    "domain": (pa.string(), "domain the manifest names"),
    "reference": (pa.string(), "reference transcript, where the manifest has one"),
    "cuts_s": (pa.list_(pa.float64()), "where in the file the manifest wants it cut besides"),
    "prompt": (pa.string(), "text that the model got ahead of it"),
    "prompt_audio": (pa.string(), "audio file that was encoded ahead of it"),
    "terms": (pa.list_(pa.string()), "names and rare words that decoding preferred in it"),
    "num_speakers": (pa.int32(), "number of its speakers by the manifest"),
    "extra": (pa.string(), "other columns of the manifest, as JSON"),
    "revision": (pa.int32(), "generation that asked for it; the highest of a place is the newest"),
}

TRANSCRIPTS: Columns = {
    "recording_id": (pa.string(), "unique; the same for the same content in any run"),
    **RECORDING,
    "duration_s": (pa.float64(), "how long the recording lasts, by its samples"),
    "status": (pa.string(), "ok, redecoded, empty or partial; the reasons say more"),
    "reasons": (pa.list_(pa.string()), "why the status is not ok"),
    "text": (pa.string(), "the words, joined by spaces"),
    "words": (pa.list_(WORD), "words in order, in seconds from the beginning of the file"),
    "speech": (pa.list_(SPAN), "where somebody speaks, by loudness"),
    "turn_ends_s": (
        pa.list_(pa.float64()),
        "where end-of-turn detection finds that a speaker finishes",
    ),
    "speakers": (pa.list_(SPEAKER), "who speaks, how long and how many words; empty: not asked"),
    "speaker_spans": (pa.list_(SPEAKER_SPAN), "who speaks when; spans of two speakers may overlap"),
    "speech_s": (pa.float64(), "how long somebody speaks"),
    "uncovered_speech_s": (pa.float64(), "how much of it has no words"),
    "num_stalls": (pa.int32(), "stretches of speech on which the model fell silent"),
    "num_redecoded": (pa.int32(), "stalled stretches that were decoded again"),
    "num_looped_words": (pa.int32(), "words inside repeated phrases"),
    "num_silent_words": (pa.int32(), "words where nobody speaks"),
    "num_simultaneous_words": (pa.int32(), "words that share one moment"),
    "detected_language": (pa.string(), "language of the words"),
    "is_language_mismatched": (pa.bool_(), "surely another language than the manifest names"),
    "findings": (pa.list_(FINDING), "what the guards object to, and where"),
    "shards": (pa.int32(), "spans the recording was cut into"),
    "duplicate_of": (pa.string(), "recording with the same bytes that was transcribed instead"),
    "model": (pa.string(), "name of the model"),
    "model_revision": (pa.string(), "revision of its weights"),
}

FAILURES: Columns = {
    "recording_id": (pa.string(), "as in transcripts; there once more if only a part failed"),
    **RECORDING,
    "shard": (pa.int32(), "the shard that failed; null: the whole recording"),
    "failed_start_s": (pa.float64(), "where in the recording the failed shard starts"),
    "failed_end_s": (pa.float64(), "where in the recording the failed shard ends"),
    "stage": (pa.string(), "what was being done: fetch, decode, transcribe, ..."),
    "reason": (pa.string(), "a code for the cause"),
    "detail": (pa.string(), "the cause in one sentence"),
    "attempts": (pa.int32(), "how often it was tried"),
    "duplicate_of": (pa.string(), "recording with the same bytes that was tried instead"),
}

PLAN: Columns = {
    "recording_id": (pa.string(), "unique; the same for the same content in any plan"),
    **RECORDING,
    "window": (pa.int32(), "recordings of one window are worked on together, longest first"),
    "estimated_s": (pa.float64(), "expected duration: by the manifest, or by size"),
    "duplicate_of": (pa.string(), "earlier recording with the same bytes"),
    "change": (pa.string(), "added, changed, asked, retried, back, corrected, gone or dropped"),
    "replaces": (pa.string(), "recording of the same place that a changed file replaces"),
}

# What one generation of the plan says about a recording.
CHANGES = {
    "added": "its file is new",
    "changed": "its file has other bytes than before",
    "asked": "it is transcribed anew, with other settings",
    "retried": "a part of it failed, and is tried again",
    "back": "its file was missing and is there again",
    "corrected": "a person corrected its words",
    "gone": "its file is missing, and its transcript is kept",
    "dropped": "its file is missing, and its transcript is removed",
}
# The transcript that stands for a place in the archive is replaced after them.
REPLACING = ("changed", "asked", "retried", "back", "corrected", "dropped")
LEAVING = ("gone", "dropped")

WORD_CHANGE = _struct(
    kind=pa.string(),
    start_s=pa.float64(),
    end_s=pa.float64(),
    before=pa.string(),
    after=pa.string(),
)

DIFF: Columns = {
    "recording_id": (pa.string(), "of the newest transcript"),
    "uri": (pa.string(), "name of the file"),
    "channel": (pa.int32(), "channel of the file, from 0; null: all channels mixed"),
    "revision_before": (pa.int32(), "revision of the transcript that was replaced"),
    "revision": (pa.int32(), "revision of the newest transcript"),
    "model_before": (pa.string(), "model of the transcript that was replaced, and its revision"),
    "model": (pa.string(), "model of the newest transcript, and its revision"),
    "num_words": (pa.int32(), "words of the newest transcript"),
    "changes": (pa.list_(WORD_CHANGE), "words that differ, in seconds of the file"),
}

SHARD = _struct(
    index=pa.int32(),
    sample_rate_hz=pa.int32(),
    start_sample=pa.int64(),
    end_sample=pa.int64(),
    owned_start_sample=pa.int64(),
    owned_end_sample=pa.int64(),
    is_last=pa.bool_(),
    damage=pa.string(),
)

PARTS: Columns = {
    "recording_id": (pa.string(), "the recording"),
    "shard_index": (pa.int32(), "which of its shards; null: the whole recording failed"),
    "is_last": (pa.bool_(), "whether no shard follows"),
    "recording": (_struct(**{name: kind for name, (kind, _) in RECORDING.items()}), "its file"),
    "shard": (
        SHARD,
        "the transcribed span and the span it counts for, in samples of the recording",
    ),
    "words": (pa.list_(WORD), "in seconds of the shard"),
    "tokens": (pa.list_(pa.int32()), "one for each step, where the run keeps them"),
    "token_confidences": (pa.list_(pa.float32()), "of the tokens"),
    "speech": (pa.list_(SPAN), "where somebody speaks, in seconds of the shard"),
    "turn_ends_s": (
        pa.list_(pa.float64()),
        "where end-of-turn detection finds that a speaker finishes",
    ),
    "voices": (pa.list_(VOICE), "vectors of voices, where speakers are told apart"),
    "num_redecoded": (pa.int32(), "spans that were decoded again"),
    "model": (pa.string(), "name of the model"),
    "model_revision": (pa.string(), "revision of its weights"),
    "failure": (
        _struct(stage=pa.string(), reason=pa.string(), detail=pa.string(), attempts=pa.int32()),
        "why there are no words",
    ),
}


def arrow_schema(table: str, columns: Columns) -> pa.Schema:
    """The columns with their meanings and the table's name and version as metadata."""
    fields = [
        pa.field(name, kind, metadata={"description": meaning})
        for name, (kind, meaning) in columns.items()
    ]
    return pa.schema(fields, {"nightscribe.schema": f"{table}/{SCHEMA_VERSION}"})


TRANSCRIPTS_SCHEMA = arrow_schema("transcripts", TRANSCRIPTS)
FAILURES_SCHEMA = arrow_schema("failures", FAILURES)
PLAN_SCHEMA = arrow_schema("plan", PLAN)
PARTS_SCHEMA = arrow_schema("parts", PARTS)
DIFF_SCHEMA = arrow_schema("diff", DIFF)
