from dataclasses import replace

import numpy as np
import pytest

from nightscribe.records import Recording, Span, Speaker, SpeakerSpan, Transcript, Voice, Word
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit, outcomes_of
from nightscribe.storage.voices import (
    CastMember,
    cast_names,
    copy_voices,
    named,
    publish_cast,
    read_cast,
    read_voices,
    remove_voices,
    voices_file,
)
from tests.storage.records import heard, recording, shards

VECTOR = np.arange(4, dtype=np.float32)


def transcript(name, revision=1, **fields):
    return Transcript(
        recording=Recording(
            uri=f"file:///{name}.wav", size_bytes=1, version="v", revision=revision
        ),
        duration_s=60.0,
        status="ok",
        words=(Word("good", 1.0, 2.0, 0.9, "speaker-1"), Word("day", 31.0, 32.0, 0.9, "speaker-2")),
        num_shards=1,
        model="tiny",
        model_revision="1",
        speakers=(
            Speaker("speaker-1", 20.0, 1, VECTOR.tobytes()),
            Speaker("speaker-2", 10.0, 1, (-VECTOR).tobytes()),
        ),
        speaker_spans=(
            SpeakerSpan("speaker-1", 0.0, 3.0),
            SpeakerSpan("speaker-1", 5.0, 22.0),
            SpeakerSpan("speaker-2", 30.0, 33.0),
        ),
        **fields,
    )


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def publish_voices(store, transcripts) -> None:
    made = voices_file(transcripts)
    assert made is not None
    store.write(*made)


def member(voice, name=None):
    return CastMember(voice.recording_id, voice.speaker, f"person of {voice.speaker}", name, 0.9)


def test_every_speaker_is_one_voice_with_its_longest_span_to_hear(store):
    publish_voices(store, [transcript("a"), transcript("b")])
    voices = read_voices(store)
    assert [(voice.uri, voice.speaker) for voice in voices if voice.uri.endswith("a.wav")] == [
        ("file:///a.wav", "speaker-1"),
        ("file:///a.wav", "speaker-2"),
    ]
    first = next(voice for voice in voices if voice.speaker == "speaker-1")
    assert (first.clip_start_s, first.clip_end_s) == (5.0, 13.0)
    assert first.vector.tolist() == VECTOR.tolist()


def test_voices_that_were_written_twice_are_read_once(store):
    publish_voices(store, [transcript("a")])
    publish_voices(store, [transcript("a"), transcript("b")])
    assert len(read_voices(store)) == 4


def test_only_the_voices_of_the_newest_revision_count(store):
    older, newer = transcript("a"), transcript("a", revision=2)
    publish_voices(store, [replace(newer, speakers=newer.speakers[1:])])
    publish_voices(store, [older])
    assert [(one.speaker, one.revision) for one in read_voices(store)] == [("speaker-2", 2)]
    copy_voices(store, {older.recording.recording_id: 3})
    (copied,) = read_voices(store)
    assert (copied.revision, copied.vector.tolist()) == (3, (-VECTOR).tolist())


def test_copies_and_transcripts_without_speakers_have_no_voices(store):
    assert voices_file([transcript("a", duplicate_of="b")]) is None
    assert read_voices(store) == []


def test_the_newest_revision_counts_and_earlier_ones_stay(store):
    publish_voices(store, [transcript("a")])
    voices = read_voices(store)
    keys = [publish_cast(store, [member(voice, name) for voice in voices]) for name in "xy"]
    assert len(set(keys)) == 2
    assert {one.name for one in read_cast(store)} == {"y"}


def test_names_replace_labels_in_words_and_speakers_but_not_in_the_table(store):
    one = transcript("a")
    publish_voices(store, [one])
    first, _ = read_voices(store)
    publish_cast(store, [member(first, "Judge Ito")])
    shown = named(one, cast_names(store))
    assert [word.speaker for word in shown.words] == ["Judge Ito", "speaker-2"]
    assert [speaker.name for speaker in shown.speakers] == ["Judge Ito", "speaker-2"]
    assert {voice.speaker for voice in read_voices(store)} == {"speaker-1", "speaker-2"}


def test_a_removed_voice_leaves_no_vector_and_no_name(store):
    publish_voices(store, [transcript("a"), transcript("b")])
    voices = read_voices(store)
    publish_cast(store, [member(voice, f"name of {voice.speaker}") for voice in voices])
    gone = [voice.key for voice in voices if voice.speaker == "speaker-1"]
    remove_voices(store, gone)
    assert {voice.speaker for voice in read_voices(store)} == {"speaker-2"}
    assert {one.name for one in read_cast(store)} == {"name of speaker-2"}
    assert all(
        b"name of speaker-1" not in store.read(entry.key) for entry in store.entries("cast/")
    )


def test_removal_clears_the_shards_of_the_recording_alone(store):
    voices = (Voice((Span(0.0, 1.0),), 1.0, b"1234"),)
    some = [replace(heard(shards(recording(name), 1)[0]), voices=voices) for name in ("a", "b")]
    (part,) = {receipt.part for receipt in commit(store, some)}
    remove_voices(store, [(some[0].recording.recording_id, "speaker-1")])
    kept = {one.recording.uri: one.voices for one in outcomes_of(store, part)}
    assert [kept[one.recording.uri] for one in some] == [(), voices]
