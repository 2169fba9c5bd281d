"""A worker that speaks: files and rows in a store, and everything wrong with a text a failure."""

import asyncio
import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nightscribe.cluster.rows import packet_table
from nightscribe.cluster.speech_stages import TextTask, read_text
from nightscribe.cluster.transcribing_actor import CommitOptions, TranscribingActor
from nightscribe.jobs.file import read_audio
from nightscribe.publishing import Publisher
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.file_speaker import FileSpeaker
from nightscribe.speech.requests import Speech
from nightscribe.speech.table import read_speech_table, write_speech_table
from nightscribe.speech.texts import TextDefaults, audio_key, request_of, texts
from nightscribe.storage.local import LocalStore
from nightscribe.storage.locations import S3Config
from nightscribe.storage.parts import receipts
from tests.cluster.local_registry import LocalRegistry
from tests.speech.checkpoints import write_speech_checkpoint, write_voice
from tests.speech.test_synthesizer import load

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

GOOD = [
    {"id": "short", "text": "one two", "seed": 4},
    {"id": "dialogue", "text": "who counts|he counts the waves", "chapter": 2},
    {"id": "../break", "text": 'one <break time="0.4s"/> two', "voice": "bob"},
]
BAD = [
    ({"id": "empty", "text": " \n"}, "bad_text", "no word"),
    ({"id": "huge", "text": "a " * 50_000}, "bad_text", "split it"),
    ({"id": "nobody", "text": "one", "voice": "nobody"}, "bad_voice", "no voice 'nobody'"),
    ({"id": "shape", "text": "one", "voice": "wide"}, "bad_voice", "has shape [1, 12, 7, 1]"),
    ({"id": "bell", "text": "one \x07 two"}, "bad_text", "control character (U+0007)"),
    ({"id": "half", "text": "one \ud800"}, "bad_text", "control character (U+FFFD)"),
    ({"id": "comma", "text": 'a <break time="1,5s"/>'}, "bad_text", "1,5s"),
    ({"id": "crowd", "text": "one", "voices": ["ann"] * 6}, "bad_condition", "at most 5"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_speech_checkpoint(tmp_path_factory.mktemp("speech"))
    for seed, name in enumerate(("ann", "bob"), 1):
        write_voice(folder, name, seed)
    path = write_voice(folder, "wide")
    save_file({"speaker_wavs": torch.zeros(1, 12, 7, 1)}, path)
    return folder


@pytest.fixture(scope="module")
def recordings(folder):
    path = folder / "texts.jsonl"
    rows = [*GOOD, *(row for row, _, _ in BAD)]
    path.write_text("\n".join(map(json.dumps, rows)))
    defaults = TextDefaults(voice="ann", other_voice="bob")
    return list(texts(str(path), S3Config(), defaults, lambda name: audio_key(name, "flac")))


@pytest.fixture(scope="module")
def store(local_ray, folder, recordings, tmp_path_factory):
    """What a worker has committed and a driver has published."""
    store = LocalStore(tmp_path_factory.mktemp("out"))
    tts = SpeechModelConfig(checkpoint=str(folder), voices=str(folder))
    speech = SpeechConfig(device="cpu", dtype="float32", num_slots=2)
    load_speaker = partial(FileSpeaker.load, tts, speech, read_audio, store)
    commits = CommitOptions(output=store.uri(""), s3=S3Config(), interval_s=0.2)
    task = TextTask(extension="flac")
    cuts = [cut for one in recordings for cut in read_text(one)]

    async def work():
        actor = TranscribingActor(load_speaker, task, LocalRegistry(), commits, 8, 3)
        await asyncio.gather(*(actor(packet_table(cuts[n : n + 4])) for n in (0, 4, 8)))

    asyncio.run(work())
    publisher = Publisher(store, lambda: None, {}, lambda transcript: transcript)
    publisher.receive(receipts(store))
    publisher.publish()
    write_speech_table(store)
    return store


def test_every_text_is_one_row_of_the_table_whatever_became_of_it(store):
    rows = {row["id"]: row for row in read_speech_table(store)}
    names = [row["id"] for row in GOOD] + [row["id"] for row, _, _ in BAD]
    assert sorted(rows) == sorted(names)
    assert {rows[row["id"]]["status"] for row in GOOD} == {"ok"}
    for row, reason, sentence in BAD:
        found = rows[row["id"]]
        assert (found["status"], found["reason"]) == ("failed", reason)
        assert sentence in found["detail"]
    assert json.loads(rows["dialogue"]["extra"]) == {"chapter": 2}
    assert rows["dialogue"]["voices"] == ["ann", "bob"]
    assert rows["short"]["seed"] == 4


def test_files_and_words_are_those_of_one_synthesizer(store, folder, recordings):
    rows = {row["id"]: row for row in read_speech_table(store)}
    requests = [request_of(one) for one in recordings[: len(GOOD)]]
    for speech in load(folder, 1, 0.6).speak(requests):
        assert isinstance(speech, Speech)
        row = rows[speech.request.request_id]
        samples_N = read_audio(store.uri(row["audio"]).removeprefix("file://"))
        expected_N = np.rint(speech.samples_N * 32767)
        assert np.abs(samples_N - expected_N).max() <= 1
        assert row["duration_s"] == pytest.approx(speech.duration_s, abs=1e-3)
        words = [(word["text"], word["start_s"]) for word in row["words"]]
        assert words == [(word.text, pytest.approx(word.start_s)) for word in speech.words]


def test_only_spoken_texts_have_files(store):
    keys = {entry.key for entry in store.entries("audio/")}
    assert keys == {audio_key(row["id"], "flac") for row in GOOD}
