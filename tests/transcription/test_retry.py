"""Guards and a transcriber together, the transcriber being one that stalls on long clips."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Span, Word
from nightscribe.transcription.clips import Clip, HeardClip
from nightscribe.transcription.retry import hear_attentively

RATE_HZ = 100
SPEECH = (Span(0.0, 40.0),)


class StallingTranscriber:
    """Says a word each half second, named by its first sample; falls silent in long clips."""

    def __init__(self):
        self.clips = []
        self._threads = ThreadPoolExecutor(2)

    def submit(self, clip):
        self.clips.append(clip)
        return self._threads.submit(self._hear, clip)

    def _hear(self, clip):
        starts = range(0, len(clip.samples_N) - 49, 50)
        words = [
            Word(f"w{clip.samples_N[first]}", first / RATE_HZ, (first + 50) / RATE_HZ, 0.9)
            for first in starts
            if clip.samples_N[first] and not (len(starts) > 60 and 1000 <= first < 3000)
        ]
        return HeardClip(clip.clip_id, words, np.zeros(9), np.zeros(9), np.zeros((9, 0)))


def clip(num_samples=4000):
    return Clip("a/0", np.arange(1, num_samples + 1, dtype=np.int16), "news")


CONFIG = GuardsConfig()


def hear(transcriber, some, config=CONFIG):
    return asyncio.run(hear_attentively(transcriber, some, SPEECH, RATE_HZ, config))


def test_a_stalled_clip_is_heard_again_in_part_and_cured():
    transcriber = StallingTranscriber()
    heard, redecoded = hear(transcriber, clip())
    assert len(heard.words) == 40
    assert [word.text for word in redecoded.words] == [f"w{n}" for n in range(1, 4000, 50)]
    assert len(redecoded.cured) == 1
    whole, again = transcriber.clips
    assert len(again.samples_N) < len(whole.samples_N)
    assert (again.domain, again.clip_id) == ("news", "a/0 again from 8.50 s")


def test_a_clip_without_a_stall_is_heard_once():
    transcriber = StallingTranscriber()
    some = clip(2500)
    heard, redecoded = asyncio.run(
        hear_attentively(transcriber, some, (Span(0, 25),), RATE_HZ, GuardsConfig())
    )
    assert list(redecoded.words) == heard.words
    assert len(transcriber.clips) == 1


def test_the_third_attempt_is_drawn_at_a_temperature():
    class Deaf(StallingTranscriber):
        def _hear(self, clip):
            heard = super()._hear(clip)
            return heard if len(self.clips) == 1 else replace(heard, words=[])

    transcriber = Deaf()
    _, redecoded = hear(transcriber, clip(), GuardsConfig(retry_temperature=0.7))
    assert redecoded.cured == ()
    assert [one.temperature for one in transcriber.clips] == [0.0, 0.0, 0.0, 0.7]
    lengths = [len(one.samples_N) for one in transcriber.clips[1:]]
    assert lengths[1] == lengths[2] > lengths[0]
