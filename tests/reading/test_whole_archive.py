"""A few hundred recordings with planted faults, from what a model heard to what people read."""

import json
import random

import numpy as np
import pytest
import srt
import webvtt

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.inspection import add_inspection
from nightscribe.guards.stall_retry import retry_stalls, run_retries
from nightscribe.reading.evaluating import evaluate, everything_said
from nightscribe.reading.exporting import Names, Wanted, exports
from nightscribe.reading.references import References
from nightscribe.records import Shard, ShardTranscript, Span, Word
from nightscribe.rendering.document import RenderingConfig
from nightscribe.rendering.formats import FORMATS
from nightscribe.stitching import stitch
from nightscribe.storage.opening import S3Config, open_store
from nightscribe.storage.published import (
    publish_transcripts,
    published_uris,
    read_failures,
    read_transcripts,
)
from tests.reading.runs import recording, said
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
FAULTS = {3: "stall", 50: "loop", 120: "hallucination", 200: "language", 250: "incurable stall"}


class Night:
    """One recording: what is said in it, and a model that hears it with one planted fault."""

    def __init__(self, index):
        self.fault = FAULTS.get(index)
        words = random.Random(index).choices(VOCABULARY, k=60 if self.fault else 8 + index % 9)
        self.words = said(FRENCH * 3 if self.fault == "language" else " ".join(words))
        self.speech_end_s = self.words[-1].end_s
        self.duration_s = self.speech_end_s + 10.0
        self.recording = recording(
            f"/archive/{index % 7}/{index}.mp3", text=" ".join(words), language="en"
        )

    def first_hearing(self):
        words = list(self.words)
        if self.fault and "stall" in self.fault:
            return [word for word in words if not 4.0 <= word.start_s < 18.0]
        if self.fault == "loop":
            return words[:20] + list(said("thank you " * 10, words[20].start_s)) + words[40:]
        if self.fault == "hallucination":
            return words + list(said("see you next time", self.speech_end_s + 4.0))
        return words[:2] + words[3:] if len(words) % 5 == 0 else words

    def retry(self, attempt):
        end_s = attempt.start_s + len(attempt.samples_N) / RATE_HZ
        heard = [w for w in self.words if attempt.start_s <= w.start_s and w.end_s <= end_s]
        start_s = attempt.start_s
        if self.fault == "incurable stall":
            return []
        return [Word(w.text, w.start_s - start_s, w.end_s - start_s, 0.8) for w in heard]

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
        attempts = retry_stalls(samples_N, RATE_HZ, self.first_hearing(), speech, GUARDS)
        retried = run_retries(attempts, self.retry)
        heard = ShardTranscript(
            shard=shard,
            words=retried.words,
            model="m",
            model_revision="r",
            speech=speech,
            num_redecoded=len(retried.fixed_stalls),
        )
        return add_inspection(stitch([heard]), GUARDS)


@pytest.fixture(scope="module")
def nights():
    return [Night(index) for index in range(NUM_RECORDINGS)]


@pytest.fixture(scope="module")
def store(nights, tmp_path_factory):
    store = open_store(str(tmp_path_factory.mktemp("run")), S3Config())
    transcripts = [night.transcript() for night in nights]
    for first in range(0, NUM_RECORDINGS, 64):
        publish_transcripts(store, transcripts[first : first + 64])
    return store


@pytest.fixture(scope="module")
def transcripts(store):
    return {one.recording.uri: one for one in read_transcripts(store)}


def test_every_planted_fault_is_found_and_nothing_else(nights, transcripts):
    found = {
        night.fault: {one.guard for one in transcripts[night.recording.uri].inspection.findings}
        for night in nights
    }
    assert found == {
        None: set(),
        "stall": set(),
        "loop": {"loop"},
        "hallucination": {"hallucination"},
        "language": {"language"},
        "incurable stall": {"stall", "coverage"},
    }


def test_the_stall_is_cured_and_the_status_says_so(nights, transcripts):
    by_fault = {night.fault: (night, transcripts[night.recording.uri]) for night in nights}
    night, cured = by_fault["stall"]
    assert [word.text for word in cured.words] == [word.text for word in night.words]
    assert (cured.status, cured.num_redecoded) == ("redecoded", 1)
    assert by_fault["incurable stall"][1].status == "partial"
    assert by_fault[None][1].status == "ok"


def test_the_word_error_rate_equals_an_independent_count(store, nights, transcripts):
    said_all = list(
        everything_said(read_transcripts(store), read_failures(store), References(), "en")
    )
    score = evaluate(said_all, []).raw
    distances = {
        night.recording.uri: edit_distance(
            tuple(night.recording.text.split()),
            tuple(word.text for word in transcripts[night.recording.uri].words),
        )
        for night in nights
    }
    num_words = sum(len(night.recording.text.split()) for night in nights)
    assert len(said_all) == NUM_RECORDINGS
    assert score.words.num_errors == sum(distances.values()) > 0
    assert score.words.rate == pytest.approx(sum(distances.values()) / num_words)


def test_every_export_is_read_back_with_all_words(store, transcripts):
    wanted = Wanted(formats=tuple(FORMATS), rendering=RenderingConfig())
    names = Names(published_uris(store))
    num_files = 0
    for export in exports(read_transcripts(store), wanted, names):
        num_files += 1
        texts = [word.text for word in transcripts[export.recording.uri].words]
        if export.suffix in READERS:
            assert READERS[export.suffix](export.text) == texts
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
