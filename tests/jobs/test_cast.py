"""What `nightscribe cast` does and prints."""

import numpy as np
import pytest
from rich.console import Console

from nightscribe.jobs.cast import _table
from nightscribe.records import Recording, Speaker, SpeakerSpan, Transcript
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_transcripts
from nightscribe.storage.voices import (
    CastMember,
    StoredVoice,
    read_cast,
    read_voices,
    voices_file,
)

JUDGE, CLERK = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
ALMOST_JUDGE = (0.8, 0.0, 0.6)


def heard(name, *voices):
    """A recording in which each of these voices speaks for ten seconds, one after the other."""
    labels = [f"speaker-{number}" for number in range(1, len(voices) + 1)]
    return Transcript(
        recording=Recording(uri=f"file:///{name}.wav", size_bytes=1, version="v"),
        duration_s=60.0,
        status="ok",
        words=(),
        num_shards=1,
        model="tiny",
        model_revision="1",
        speakers=tuple(
            Speaker(label, 10.0, 0, np.array(voice, np.float32).tobytes())
            for label, voice in zip(labels, voices, strict=True)
        ),
        speaker_spans=tuple(
            SpeakerSpan(label, 10.0 * place, 10.0 * place + 9) for place, label in enumerate(labels)
        ),
    )


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    transcripts = [heard("a", JUDGE, CLERK), heard("b", JUDGE), heard("c", ALMOST_JUDGE)]
    publish_transcripts(store, transcripts)
    file = voices_file(transcripts)
    assert file is not None
    store.write(*file)
    return store


def persons(store):
    """The files in which each person is heard."""
    uri_of = {voice.key: voice.uri for voice in read_voices(store)}
    found = {}
    for member in read_cast(store):
        found.setdefault(member.name or member.person, set()).add(uri_of[member.key][-5:-4])
    return found


def test_the_cast_is_printed_with_what_keeps_persons_apart(nightscribe, store, tmp_path):
    code, out, _ = nightscribe("cast", str(tmp_path), "same_person=0.9")
    assert code == 0
    assert "persons: 3, recordings: 3" in out
    assert "the two most alike persons have a cosine of 0.80" in out
    assert "from same_person=0.9 on they would be one" in out
    _, out, _ = nightscribe("cast", str(tmp_path), "same_person=0.76", "max_rows=1")
    assert "persons: 2, recordings: 3" in out
    assert "the 1 who speak longest are shown; max_rows=2 shows all" in out
    assert out.count("voice-0") == 1


def test_a_name_is_given_to_all_voices_of_a_person_and_kept(nightscribe, store, tmp_path):
    nightscribe("cast", str(tmp_path))
    names = tmp_path / "names.csv"
    (judge,) = (person for person, where in persons(store).items() if len(where) == 3)
    names.write_text(f"{judge},Judge Ito\n")
    assert nightscribe("cast", str(tmp_path), f"names={names}")[0] == 0
    assert nightscribe("cast", str(tmp_path))[0] == 0
    assert persons(store)["Judge Ito"] == {"a", "b", "c"}
    names.write_text("voice-0099,Nobody\n")
    code, _, err = nightscribe("cast", str(tmp_path), f"names={names}")
    assert (code, "there is no voice-0099 in this cast" in err) == (2, True)


def test_a_forgotten_person_has_no_vectors_any_more(nightscribe, store, tmp_path):
    nightscribe("cast", str(tmp_path))
    (judge,) = (person for person, where in persons(store).items() if len(where) == 3)
    _, out, _ = nightscribe("cast", str(tmp_path), f"forget={judge}")
    assert out == f"voices of {judge} removed: 3\n"
    assert [voice.uri for voice in read_voices(store)] == ["file:///a.wav"]
    code, _, err = nightscribe("cast", str(tmp_path), f"forget={judge}")
    assert (code, f"nobody in this cast is called {judge}" in err) == (2, True)


def test_the_file_of_a_clip_is_shown_whole_on_a_narrow_terminal(capsys):
    uri = "file:///archive/2019/hearing-%C3%A4-0017-second-day.flac"
    voice = StoredVoice("r", 1, "speaker-1", uri, None, 30.0, np.ones(2, np.float32), 1.0, 3.0)
    member = CastMember("r", "speaker-1", "voice-0001", None, 1.0)
    Console(width=80).print(_table([voice], [member], 5))
    title, *lines = capsys.readouterr().out.splitlines()
    column = title.index("clip in")
    shown = "".join(line[column:].strip() for line in lines)
    assert shown == "/archive/2019/hearing-\u00e4-0017-second-day.flac at 1.0-3.0 s"
