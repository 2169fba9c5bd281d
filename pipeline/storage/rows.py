"""Records to rows of the tables, and back."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nightscribe.records import (
    Failure,
    Finding,
    Inspection,
    PlannedRecording,
    Recording,
    Shard,
    ShardTranscript,
    Span,
    Speaker,
    SpeakerSpan,
    Transcript,
    Voice,
    Word,
)

Row = dict[str, Any]
Outcome = ShardTranscript | Failure


def recording_row(recording: Recording) -> Row:
    return {
        **{column: getattr(recording, name) for name, column in _COLUMN_OF.items()},
        "cuts_s": list(recording.cuts_s),
        "terms": list(recording.terms),
    }


def recording_of(row: Mapping[str, Any]) -> Recording:
    # Tables of earlier versions lack the newest columns, all of which may be empty.
    given = {name: row[column] for name, column in _COLUMN_OF.items() if column in row}
    lists = {name: tuple(row.get(name) or ()) for name in ("cuts_s", "terms")}
    return Recording(**given | lists)


# A transcript has a `text` of its own.
_COLUMN_OF = {field.name: field.name for field in fields(Recording)} | {"text": "reference"}


def planned_row(planned: PlannedRecording) -> Row:
    return {
        "recording_id": planned.recording.recording_id,
        **recording_row(planned.recording),
        "window": planned.window,
        "estimated_s": planned.estimated_s,
        "duplicate_of": planned.duplicate_of,
    }


def planned_of(row: Mapping[str, Any]) -> PlannedRecording:
    return PlannedRecording(
        recording=recording_of(row),
        window=row["window"],
        estimated_s=row["estimated_s"],
        duplicate_of=row["duplicate_of"],
    )


def transcript_row(transcript: Transcript) -> Row:
    return {
        "recording_id": transcript.recording.recording_id,
        **recording_row(transcript.recording),
        "duration_s": transcript.duration_s,
        "status": transcript.status,
        "reasons": list(transcript.reasons),
        "text": transcript.text,
        "words": list(map(_word_row, transcript.words)),
        "speech": [span._asdict() for span in transcript.speech],
        "turn_ends_s": list(transcript.turn_ends_s),
        "speakers": [_speaker_row(speaker) for speaker in transcript.speakers],
        "speaker_spans": [_plain(span) for span in transcript.speaker_spans],
        "num_redecoded": transcript.num_redecoded,
        "shards": transcript.num_shards,
        "duplicate_of": transcript.duplicate_of,
        "model": transcript.model,
        "model_revision": transcript.model_revision,
        **(_inspection_row(transcript.inspection) if transcript.inspection else {}),
    }


def transcript_of(row: Mapping[str, Any]) -> Transcript:
    return Transcript(
        recording=recording_of(row),
        duration_s=row["duration_s"],
        status=row["status"],
        words=tuple(Word(**word) for word in row["words"]),
        num_shards=row["shards"],
        model=row["model"],
        model_revision=row["model_revision"],
        reasons=tuple(row["reasons"]),
        speech=tuple(Span(**span) for span in row["speech"]),
        turn_ends_s=tuple(row["turn_ends_s"]),
        num_redecoded=row["num_redecoded"],
        duplicate_of=row["duplicate_of"],
        # Tables of earlier versions have no speakers.
        speakers=tuple(Speaker(**speaker) for speaker in row.get("speakers") or ()),
        speaker_spans=tuple(SpeakerSpan(**span) for span in row.get("speaker_spans") or ()),
        inspection=_inspection_of(row) if row["findings"] is not None else None,
    )


def failure_of(row: Mapping[str, Any]) -> Failure:
    """The failure without its shard, of which the table has only the times."""
    names = ("stage", "reason", "detail", "attempts", "duplicate_of")
    return Failure(recording=recording_of(row), **{name: row[name] for name in names})


def failure_row(failure: Failure) -> Row:
    shard = failure.shard
    return {
        "recording_id": failure.recording.recording_id,
        **recording_row(failure.recording),
        "shard": shard.index if shard else None,
        "failed_start_s": shard.start_s if shard else None,
        "failed_end_s": shard.end_s if shard else None,
        **_cause(failure),
        "duplicate_of": failure.duplicate_of,
    }


def outcome_row(outcome: Outcome) -> Row:
    """One row of a part."""
    shard = outcome.shard
    return {
        "recording_id": outcome.recording.recording_id,
        "shard_index": shard.index if shard else None,
        "is_last": shard.is_last if shard else None,
        "recording": recording_row(outcome.recording),
        "shard": shard_row(shard) if shard else None,
        **({"failure": _cause(outcome)} if isinstance(outcome, Failure) else _result(outcome)),
    }


def shard_of(row: Mapping[str, Any], recording: Recording) -> Shard | None:
    return Shard(recording=recording, **row["shard"]) if row["shard"] else None


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    recording = recording_of(row["recording"])
    shard = shard_of(row, recording)
    if row["failure"]:
        return Failure(recording=recording, shard=shard, **row["failure"])
    assert shard is not None
    return ShardTranscript(
        shard=shard,
        words=tuple(Word(**word) for word in row["words"]),
        model=row["model"],
        model_revision=row["model_revision"],
        tokens=tuple(row["tokens"]),
        token_confidences=tuple(row["token_confidences"]),
        speech=tuple(Span(**span) for span in row["speech"]),
        turn_ends_s=tuple(row["turn_ends_s"]),
        num_redecoded=row["num_redecoded"],
        voices=tuple(map(_voice_of, row.get("voices") or ())),
    )


def _voice_of(row: Mapping[str, Any]) -> Voice:
    spans = tuple(Span(**span) for span in row["spans"])
    return Voice(spans, row["clean_s"], row["vector"])


def _voice_row(voice: Voice) -> Row:
    spans = [span._asdict() for span in voice.spans]
    return {"spans": spans, "clean_s": voice.clean_s, "vector": voice.vector}


def _speaker_row(speaker: Speaker) -> Row:
    """Without its vector, which is in a table of its own."""
    return {name: getattr(speaker, name) for name in ("name", "duration_s", "num_words")}


def _inspection_row(inspection: Inspection) -> Row:
    row = {field.name: getattr(inspection, field.name) for field in fields(Inspection)}
    return row | {"findings": [_plain(finding) for finding in inspection.findings]}


def _inspection_of(row: Mapping[str, Any]) -> Inspection:
    measures = {field.name: row[field.name] for field in fields(Inspection)}
    findings = tuple(Finding(**finding) for finding in row["findings"])
    return Inspection(**measures | {"findings": findings})


def _result(transcript: ShardTranscript) -> Row:
    return {
        "words": list(map(_word_row, transcript.words)),
        "tokens": list(transcript.tokens),
        "token_confidences": list(transcript.token_confidences),
        "speech": [span._asdict() for span in transcript.speech],
        "turn_ends_s": list(transcript.turn_ends_s),
        "voices": [_voice_row(voice) for voice in transcript.voices],
        "num_redecoded": transcript.num_redecoded,
        "model": transcript.model,
        "model_revision": transcript.model_revision,
    }


def _cause(failure: Failure) -> Row:
    names = ("stage", "reason", "detail", "attempts")
    return {name: getattr(failure, name) for name in names}


def shard_row(shard: Shard) -> Row:
    """A shard without its recording."""
    names = [field.name for field in fields(Shard) if field.name != "recording"]
    return {name: getattr(shard, name) for name in names}


def _word_row(word: Word) -> Row:
    """Spelt out, because most of what a run stores is words: a third of the time of `_plain`."""
    return {
        "text": word.text,
        "start_s": word.start_s,
        "end_s": word.end_s,
        "confidence": word.confidence,
        "speaker": word.speaker,
    }


def _plain(record: Finding | SpeakerSpan) -> Row:
    return {name: getattr(record, name) for name in record.__slots__}
