"""A few hundred recordings with planted faults, from the words of the model to every export."""

import json
import random

import numpy as np
import pytest
import srt
import webvtt

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.inspection import add_inspection
from nightscribe.guards.stall_retry import retry_stalls
from nightscribe.reading.evaluation import evaluate, files_to_evaluate
from nightscribe.reading.export import ExportNames, ExportOptions, export_files
from nightscribe.reading.references import References
from nightscribe.records import Shard, ShardTranscript, Span, Word
from nightscribe.rendering.document import RenderingConfig
from nightscribe.rendering.formats import FORMATS
from nightscribe.stitching import stitch
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import (
    publish_transcripts,
    published_uris,
    read_failures,
    read_transcripts,
)
from tests.guards.retries import run_retries
from tests.reading.runs import recording, speak
from tests.scoring.test_word_errors import edit_distance

RATE_HZ = 100
NUM_RECORDINGS = 300
GUARDS = GuardsConfig()
ENGLISH = (
    "the old boat left our harbour before sunrise and nobody knew where she would be going "
    "because her captain never told anyone what he had seen that winter near the islands"
)
VOCABULARY = ENGLISH.split()
FRENCH = (
    "le vieux bateau a quitt\u00e9 notre port avant le lever du soleil et personne ne savait "
    "pourquoi le capitaine \u00e9tait si triste "
)
FAULTS = {3: "stall", 50: "loop", 120: "hallucination", 200: "language", 250: "permanent stall"}


class PlantedRecording:
    """One recording: its words, and a model that transcribes it with one planted fault."""

    def __init__(self, index):
        self.fault = FAULTS.get(index)
        words = random.Random(index).choices(VOCABULARY, k=60 if self.fault else 8 + index % 9)
        self.words = speak(FRENCH * 3 if self.fault == "language" else " ".join(words))
        self.speech_end_s = self.words[-1].end_s
        self.duration_s = self.speech_end_s + 10.0
        self.recording = recording(
            f"/archive/{index % 7}/{index}.mp3", text=" ".join(words), language="en"
        )

    def first_words(self):
        words = list(self.words)
        if self.fault and "stall" in self.fault:
            return [word for word in words if not 4.0 <= word.start_s < 18.0]
        if self.fault == "loop":
            return words[:20] + list(speak("thank you " * 10, words[20].start_s)) + words[40:]
        if self.fault == "hallucination":
            return words + list(speak("see you next time", self.speech_end_s + 4.0))
        return words[:2] + words[3:] if len(words) % 5 == 0 else words

    def retry(self, attempt):
        end_s = attempt.start_s + len(attempt.samples_N) / RATE_HZ
        inside = [w for w in self.words if attempt.start_s <= w.start_s and w.end_s <= end_s]
        start_s = attempt.start_s
        if self.fault == "permanent stall":
            return []
        return [Word(w.text, w.start_s - start_s, w.end_s - start_s, 0.8) for w in inside]

    def transcript(self):
        num_samples = round(self.duration_s * RATE_HZ)
        shard = Shard(
            recording=self.recording,
            index=0,
            sample_rate_hz=RATE_HZ,
            start_sample=0,
            end_sample=num_samples,
            owned_start_sample=0,
            owned_end_sample=num_samples,
            is_last=True,
        )
        speech = (Span(0.0, self.speech_end_s),)
        samples_N = np.zeros(num_samples, np.int16)
        attempts = retry_stalls(samples_N, RATE_HZ, self.first_words(), speech, GUARDS)
        retried = run_retries(attempts, self.retry)
        shard_transcript = ShardTranscript(
            shard=shard,
            words=retried.words,
            model="m",
            model_revision="r",
            speech=speech,
            num_redecoded=len(retried.fixed_stalls),
        )
        return add_inspection(stitch([shard_transcript]), GUARDS)


@pytest.fixture(scope="module")
def planted_recordings():
    return [PlantedRecording(index) for index in range(NUM_RECORDINGS)]


@pytest.fixture(scope="module")
def store(planted_recordings, tmp_path_factory):
    store = open_store(str(tmp_path_factory.mktemp("run")), S3Config())
    transcripts = [planted.transcript() for planted in planted_recordings]
    for first in range(0, NUM_RECORDINGS, 64):
        publish_transcripts(store, transcripts[first : first + 64])
    return store


@pytest.fixture(scope="module")
def transcripts(store):
    return {one.recording.uri: one for one in read_transcripts(store)}


def test_every_planted_fault_is_found_and_nothing_else(planted_recordings, transcripts):
    found = {
        planted.fault: {one.guard for one in transcripts[planted.recording.uri].inspection.findings}
        for planted in planted_recordings
    }
    assert found == {
        None: set(),
        "stall": set(),
        "loop": {"loop"},
        "hallucination": {"hallucination"},
        "language": {"language"},
        "permanent stall": {"stall", "coverage"},
    }


def test_a_fixed_stall_sets_the_status_to_redecoded(planted_recordings, transcripts):
    by_fault = {
        planted.fault: (planted, transcripts[planted.recording.uri])
        for planted in planted_recordings
    }
    planted, fixed = by_fault["stall"]
    assert [word.text for word in fixed.words] == [word.text for word in planted.words]
    assert (fixed.status, fixed.num_redecoded) == ("redecoded", 1)
    assert by_fault["permanent stall"][1].status == "partial"
    assert by_fault[None][1].status == "ok"


def test_the_word_error_rate_equals_an_independent_count(store, planted_recordings, transcripts):
    files = list(
        files_to_evaluate(read_transcripts(store), read_failures(store), References(), "en")
    )
    score = evaluate(files, []).raw
    distances = {
        planted.recording.uri: edit_distance(
            tuple(planted.recording.text.split()),
            tuple(word.text for word in transcripts[planted.recording.uri].words),
        )
        for planted in planted_recordings
    }
    num_words = sum(len(planted.recording.text.split()) for planted in planted_recordings)
    assert len(files) == NUM_RECORDINGS
    assert score.words.num_errors == sum(distances.values()) > 0
    assert score.words.rate == pytest.approx(sum(distances.values()) / num_words)


def test_every_export_is_read_back_with_all_words(store, transcripts):
    options = ExportOptions(formats=tuple(FORMATS), rendering=RenderingConfig())
    names = ExportNames(published_uris(store))
    num_files = 0
    for export in export_files(read_transcripts(store), options, names):
        num_files += 1
        texts = [word.text for word in transcripts[export.recording.uri].words]
        if export.suffix in READERS:
            assert READERS[export.suffix](export.content.decode()) == texts
    assert num_files == NUM_RECORDINGS * len(FORMATS)


READERS = {
    ".txt": lambda text: text.split(),
    ".srt": lambda text: " ".join(cue.content for cue in srt.parse(text)).split(),
    ".vtt": lambda text: " ".join(cue.text for cue in webvtt.from_string(text).captions).split(),
    ".json": lambda text: json.loads(text)["text"].split(),
    ".ctm": lambda text: [row.split()[4] for row in text.splitlines()],
    ".tsv": lambda text: [row.split("\t")[4] for row in text.splitlines()[1:]],
    ".words.txt": lambda text: [row.split()[3] for row in text.splitlines()],
}
