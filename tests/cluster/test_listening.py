"""What a shard becomes before a transcriber hears it."""

import asyncio
from concurrent.futures import Future

import numpy as np
import pytest

from nightscribe.cluster.listening import TranscriberListener
from nightscribe.cluster.rows import CutShard
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.prompting import Prompt
from nightscribe.records import Recording, Shard
from nightscribe.transcription.clips import HeardClip

PRIMER = Prompt(samples_N=np.ones(48_000, np.int16))


class Remembering:
    def submit(self, clip):
        self.clip, answer = clip, Future()
        heads = np.zeros((9, 0))
        answer.set_result(HeardClip(clip.clip_id, [], np.zeros(9), np.zeros(9), heads, (0.5,)))
        return answer


def hear(language):
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
    listener = TranscriberListener(transcriber, "m", "r", GuardsConfig(), primers={"fr": PRIMER})
    heard = asyncio.run(listener.hear(CutShard(shard, np.zeros(24_000, np.int16))))
    return transcriber.clip, heard


@pytest.mark.parametrize(
    ("language", "primer"), [("fr", PRIMER), ("fr-CA", PRIMER), ("en", None), (None, None)]
)
def test_the_primer_of_its_language_is_heard_before_a_recording(language, primer):
    clip, _ = hear(language)
    assert clip.prompt is primer
    assert clip.domain == "law"


def test_the_ends_of_turns_come_along():
    assert hear(None)[1].turn_ends_s == (0.5,)
