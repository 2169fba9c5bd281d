"""What a worker makes of a shard for its transcriber, and of the answer."""

import asyncio
import tempfile
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from nightscribe.cluster.rows import packet_table, receipts_of
from nightscribe.cluster.transcribing_actor import CommitOptions, TranscribingActor
from nightscribe.engine.loop import EngineStats
from nightscribe.model.prompting import Prompt
from nightscribe.records import Recording, Shard, Span
from nightscribe.runs.shards import CutShard, ShardOptions
from nightscribe.storage.local import LocalStore
from nightscribe.storage.locations import S3Config
from nightscribe.storage.parts import outcomes_of
from nightscribe.transcription.clips import ClipTranscript
from tests.cluster.local_registry import LocalRegistry

PROMPT = Prompt(samples_N=np.ones(48_000, np.int16))
SPEECH = (Span(0.25, 0.75),)


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    monkeypatch.setattr("ray.get", lambda answer: answer.value)


class Remembering:
    has_died, stats = False, EngineStats()
    model, model_revision = "m", "r"

    def submit(self, clip):
        self.clip, answer = clip, Future()
        heads = np.zeros((9, 0))
        answer.set_result(
            ClipTranscript(clip.clip_id, (), np.zeros(9, np.int32), np.zeros(9), heads, (0.5,))
        )
        return answer


def transcribe(language=None, **options):
    of = Recording(uri="/a.wav", size_bytes=1, version="1", language=language, domain="law")
    shard = Shard(
        recording=of,
        index=0,
        sample_rate_hz=24_000,
        start_sample=0,
        end_sample=24_000,
        owned_start_sample=0,
        owned_end_sample=24_000,
        is_last=True,
    )
    transcriber = Remembering()
    options = ShardOptions(language_prompts={"fr": PROMPT}, **options)
    with tempfile.TemporaryDirectory() as output:
        commits = CommitOptions(output=output, s3=S3Config(), interval_s=0.1)
        worker = TranscribingActor(lambda: transcriber, options, LocalRegistry(), commits, 8, 3)
        cut = CutShard(shard, np.zeros(24_000, np.int16), SPEECH)
        (row,) = asyncio.run(worker(packet_table([cut]))).to_pylist()
        (receipt,) = receipts_of(row)
        (outcome,) = outcomes_of(LocalStore(Path(output)), receipt.part)
    return transcriber.clip, outcome


@pytest.mark.parametrize(
    ("language", "prompt"), [("fr", PROMPT), ("fr-CA", PROMPT), ("en", None), (None, None)]
)
def test_a_recording_is_transcribed_after_the_prompt_of_its_language(language, prompt):
    clip, _ = transcribe(language)
    assert clip.prompt is prompt
    assert clip.domain == "law"


def test_the_ends_of_turns_and_the_spans_of_speech_reach_the_shard_transcript():
    clip, transcript = transcribe()
    assert transcript.turn_ends_s == (0.5,)
    assert clip.speech == transcript.speech == SPEECH
    assert (transcript.model, transcript.model_revision) == ("m", "r")


@pytest.mark.parametrize(("keep_tokens", "num_tokens"), [(False, 0), (True, 9)])
def test_tokens_are_stored_only_where_they_are_asked_for(keep_tokens, num_tokens):
    _, transcript = transcribe(keep_tokens=keep_tokens)
    assert len(transcript.tokens) == len(transcript.token_confidences) == num_tokens
