"""The vectors of speakers, and who they are: `voices/` and the revisions of `cast/`.

Both are kept apart from the transcripts, so that a voice can be removed without touching words.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.records import SpeakerSpan, Transcript
from nightscribe.storage.parts import FOLDER as PARTS_FOLDER
from nightscribe.storage.schema import Columns, arrow_schema
from nightscribe.storage.store import Store
from nightscribe.storage.tables import SORTED, File, file_of, files, parquet_bytes, read_rows

VOICES_FOLDER = "voices"
CAST_FOLDER = "cast"
# The sound that is played for a speaker: its longest span, at most this much of it.
MAX_CLIP_S = 8.0

VOICES: Columns = {
    "recording_id": (pa.string(), "as in transcripts"),
    "revision": (pa.int32(), "as in transcripts"),
    "speaker": (pa.string(), "the speaker's label in that transcript"),
    "uri": (pa.string(), "name of the file"),
    "channel": (pa.int32(), "channel of the file, from 0; null: all channels mixed"),
    "duration_s": (pa.float64(), "how long the speaker speaks"),
    "vector": (pa.list_(pa.float32()), "what the speaker sounds like, of length 1"),
    "clip_start_s": (pa.float64(), "where in the file the speaker can be heard"),
    "clip_end_s": (pa.float64(), "where that ends"),
}
CAST: Columns = {
    "recording_id": (pa.string(), "as in transcripts"),
    "speaker": (pa.string(), "the speaker's label in that transcript"),
    "person": (pa.string(), "the same for the same voice in all recordings"),
    "name": (pa.string(), "who that is, where somebody said so"),
    "likeness": (pa.float64(), "cosine of the voice and the mean of its person"),
}
VOICES_SCHEMA = arrow_schema("voices", VOICES)
CAST_SCHEMA = arrow_schema("cast", CAST)

Key = tuple[str, str]  # a recording's id and a speaker in it


@dataclass(frozen=True, slots=True, eq=False)
class StoredVoice:
    """A speaker of one recording."""

    recording_id: str
    revision: int
    speaker: str
    uri: str
    channel: int | None
    duration_s: float
    vector: np.ndarray = field(repr=False)
    clip_start_s: float
    clip_end_s: float

    @property
    def key(self) -> Key:
        return self.recording_id, self.speaker


@dataclass(frozen=True, slots=True)
class CastMember:
    """Which person a speaker of a recording is."""

    recording_id: str
    speaker: str
    person: str
    name: str | None
    likeness: float

    @property
    def key(self) -> Key:
        return self.recording_id, self.speaker


def voices_file(transcripts: Iterable[Transcript]) -> File | None:
    """One more file of the voices of these transcripts; None if they have none.

    An attempt that ends before it publishes the transcripts leaves rows that the next one writes
    again: readers take one of each.
    """
    rows = [row for one in transcripts if one.duplicate_of is None for row in _rows(one)]
    return file_of(VOICES_FOLDER, rows, VOICES_SCHEMA) if rows else None


def read_voices(store: Store) -> list[StoredVoice]:
    """Every voice of the newest revision once, by recording and speaker."""
    rows = [
        row
        for entry in files(store, VOICES_FOLDER)
        for row in read_rows(store, entry.key).to_pylist()
    ]
    newest: dict[str, int] = {}
    for row in rows:
        name = row["recording_id"]
        newest[name] = max(newest.get(name, 0), row["revision"])
    found = {
        (row["recording_id"], row["speaker"]): row
        for row in rows
        if row["revision"] == newest[row["recording_id"]]
    }
    return [
        StoredVoice(**row | {"vector": np.array(row["vector"], np.float32)})
        for _, row in sorted(found.items())
    ]


def copy_voices(store: Store, revision_of: Mapping[str, int]) -> None:
    """Give the voices of these recordings to another revision, whose speakers are the same."""
    rows = [
        {name: getattr(voice, name) for name in VOICES}
        | {"vector": voice.vector.tolist(), "revision": revision_of[voice.recording_id]}
        for voice in read_voices(store)
        if voice.recording_id in revision_of
    ]
    if rows:
        store.write(*file_of(VOICES_FOLDER, rows, VOICES_SCHEMA))


def publish_cast(store: Store, members: Sequence[CastMember]) -> str:
    """The next revision; earlier ones stay."""
    last = max((int(key[:-8].rpartition("/")[2]) for key in _revisions(store)), default=0)
    key = f"{CAST_FOLDER}/{last + 1:06d}.parquet"
    store.write(key, _cast_bytes(members))
    return key


def read_cast(store: Store) -> list[CastMember]:
    """The newest revision; empty if there is none."""
    newest = max(_revisions(store), default=None)
    if newest is None:
        return []
    return [CastMember(**row) for row in read_rows(store, newest).to_pylist()]


def remove_voices(store: Store, keys: Iterable[Key]) -> None:
    """Remove the vectors of these speakers, of their recordings' shards, and who they are."""
    gone = set(keys)
    for entry in list(files(store, VOICES_FOLDER)):
        table = read_rows(store, entry.key)
        _rewrite(store, entry.key, table, table.filter(_is_kept(table, gone)))
    for revision in _revisions(store):
        table = read_rows(store, revision)
        _rewrite(store, revision, table, table.filter(_is_kept(table, gone)))
    recordings = pa.array(sorted({recording_id for recording_id, _ in gone}), pa.string())
    for entry in list(files(store, PARTS_FOLDER)):
        table = read_rows(store, entry.key)
        _rewrite(store, entry.key, table, _without_vectors(table, recordings))


def named(transcript: Transcript, names: dict[Key, str]) -> Transcript:
    """The transcript with the names of the cast instead of labels."""

    def name_of(speaker: str) -> str:
        return names.get((transcript.recording.recording_id, speaker), speaker)

    return replace(
        transcript,
        words=tuple(
            word if word.speaker is None else replace(word, speaker=name_of(word.speaker))
            for word in transcript.words
        ),
        speakers=tuple(replace(one, name=name_of(one.name)) for one in transcript.speakers),
        speaker_spans=tuple(
            replace(span, speaker=name_of(span.speaker)) for span in transcript.speaker_spans
        ),
    )


def cast_names(store: Store) -> dict[Key, str]:
    """The name of each speaker that has one."""
    return {member.key: member.name for member in read_cast(store) if member.name}


def _rows(transcript: Transcript) -> Iterator[dict]:
    for speaker in transcript.speakers:
        own = [span for span in transcript.speaker_spans if span.speaker == speaker.name]
        clip = _clip(own)
        yield {
            "recording_id": transcript.recording.recording_id,
            "revision": transcript.recording.revision,
            "speaker": speaker.name,
            "uri": transcript.recording.uri,
            "channel": transcript.recording.channel,
            "duration_s": speaker.duration_s,
            "vector": np.frombuffer(speaker.vector, np.float32).tolist(),
            "clip_start_s": clip.start_s,
            "clip_end_s": min(clip.end_s, clip.start_s + MAX_CLIP_S),
        }


def _clip(spans: Sequence[SpeakerSpan]) -> SpeakerSpan:
    return max(spans, key=lambda span: span.end_s - span.start_s)


def _revisions(store: Store) -> list[str]:
    return sorted(entry.key for entry in files(store, CAST_FOLDER))


def _cast_bytes(members: Sequence[CastMember]) -> bytes:
    rows = [
        {name: getattr(member, name) for name in CastMember.__slots__}
        for member in sorted(members, key=lambda member: member.key)
    ]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=CAST_SCHEMA), SORTED)


def _is_kept(table: pa.Table, gone: set[Key]) -> pa.Array:
    keys = zip(table["recording_id"].to_pylist(), table["speaker"].to_pylist(), strict=True)
    return pa.array([key not in gone for key in keys], pa.bool_())


def _without_vectors(table: pa.Table, recordings: pa.Array) -> pa.Table:
    if "voices" not in table.column_names:
        return table
    place = table.schema.get_field_index("voices")
    is_gone = pc.is_in(table["recording_id"], recordings)
    kind = table.schema.field("voices").type
    cleared = pc.if_else(is_gone, pa.scalar([], kind), table["voices"])
    return table.set_column(place, table.schema.field(place), cleared)


def _rewrite(store: Store, key: str, before: pa.Table, after: pa.Table) -> None:
    if not after.equals(before):
        store.write(key, parquet_bytes(after, SORTED))
