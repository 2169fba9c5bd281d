"""Stall retries inside a transcriber whose model stalls in long clips."""

import numpy as np
import pytest

from nightscribe.engine.loop import step_engine
from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Span, Word
from nightscribe.transcription.transcriber import Clip, ClipAdapter, Transcriber
from tests.fakes import HashingModel

RATE_HZ = 100
SPEECH = (Span(0.0, 40.0),)
FRAME_SAMPLES = 8


class StallingTranscriber(Transcriber):
    """A word each half second, named by its first sample; in long clips it falls silent."""

    def __init__(self, guards, num_slots=2):
        self.clips = []
        adapter = ClipAdapter(
            sample_rate_hz=RATE_HZ,
            frame_samples=FRAME_SAMPLES,
            prefix_frames=1,
            flush_frames=2,
            read_words=self._words,
        )
        super().__init__(step_engine(HashingModel(num_slots, FRAME_SAMPLES)), adapter, guards)

    def _words(self, clip, output):
        self.clips.append(clip)
        starts = range(0, len(clip.samples_N) - 49, 50)
        return [
            Word(f"w{clip.samples_N[first]}", first / RATE_HZ, (first + 50) / RATE_HZ, 0.9)
            for first in starts
            if clip.samples_N[first] and not (len(starts) > 60 and 1000 <= first < 3000)
        ]


class Deaf(StallingTranscriber):
    """Finds no word in any retry."""

    def _words(self, clip, output):
        words = super()._words(clip, output)
        return words if "retry" not in clip.clip_id else []


class Broken(StallingTranscriber):
    """Fails in every retry."""

    def _words(self, clip, output):
        if "retry" in clip.clip_id:
            raise ValueError("unreadable")
        return super()._words(clip, output)


def clip(num_samples=4000, speech=SPEECH, name="a/0"):
    samples_N = np.arange(1, num_samples + 1, dtype=np.int16)
    return Clip(name, samples_N, "news", speech=speech)


def listed(transcriber, *clips):
    return sorted(transcriber.transcribe(clips), key=lambda one: one.clip_id)


def submitted(transcriber, *clips):
    futures = [transcriber.submit(one) for one in clips]
    transcriber.close()
    return [future.result(timeout=0) for future in futures]


both_ways = pytest.mark.parametrize("transcribe", [listed, submitted])
# The sound of these clips is no speech to a network that listens.
CONFIG = GuardsConfig(min_confirmed_speech=0)


@both_ways
def test_a_stalled_clip_is_transcribed_again_in_part_and_cured(transcribe):
    transcriber = StallingTranscriber(CONFIG)
    (transcript,) = transcribe(transcriber, clip())
    assert [word.text for word in transcript.words] == [f"w{n}" for n in range(1, 4000, 50)]
    assert transcript.num_redecoded == 1
    whole, again = transcriber.clips
    assert len(again.samples_N) < len(whole.samples_N)
    assert (again.domain, again.clip_id) == ("news", "a/0 retry from 8.50 s")
    assert transcript.num_steps == 1 + 1 + 4000 // FRAME_SAMPLES + 2  # tokens of the first pass


@both_ways
def test_a_clip_without_a_stall_takes_one_pass(transcribe):
    transcriber = StallingTranscriber(CONFIG)
    (transcript,) = transcribe(transcriber, clip(2500, (Span(0, 25),)))
    assert len(transcript.words) == 50
    assert transcript.num_redecoded == 0
    assert len(transcriber.clips) == 1


def test_without_guards_nothing_is_retried():
    transcriber = StallingTranscriber(None)
    (transcript,) = transcriber.transcribe([clip()])
    assert (len(transcript.words), transcript.num_redecoded) == (40, 0)
    assert len(transcriber.clips) == 1


def test_a_clip_that_names_no_speech_has_it_measured():
    transcriber = StallingTranscriber(CONFIG)
    (transcript,) = transcriber.transcribe([clip(speech=None)])
    assert transcript.speech == transcriber.clips[0].speech
    assert transcript.speech is not None


@both_ways
def test_the_third_attempt_is_drawn_at_a_temperature(transcribe):
    transcriber = Deaf(GuardsConfig(retry_temperature=0.7, min_confirmed_speech=0))
    (transcript,) = transcribe(transcriber, clip())
    assert transcript.num_redecoded == 0
    assert len(transcript.words) == 40
    assert [one.temperature for one in transcriber.clips] == [0.0, 0.0, 0.0, 0.7]
    lengths = [len(one.samples_N) for one in transcriber.clips[1:]]
    assert lengths[1] == lengths[2] > lengths[0]


@both_ways
@pytest.mark.parametrize("num_slots", [1, 2, 5])
def test_retries_among_neighbours_give_the_words_of_a_clip_alone(transcribe, num_slots):
    clips = [clip(4000 - 300 * n, name=f"{n}/0") for n in range(6)]
    alone = [next(StallingTranscriber(CONFIG).transcribe([one])) for one in clips]
    together = transcribe(StallingTranscriber(CONFIG, num_slots), *clips)
    assert [one.words for one in together] == [one.words for one in alone]
    assert [one.tokens_T.tolist() for one in together] == [o.tokens_T.tolist() for o in alone]
    assert sum(one.num_redecoded for one in together) > 1


def test_an_error_in_a_retry_fails_its_clip_alone():
    transcriber = Broken(CONFIG)
    stalled, whole = transcriber.submit(clip()), transcriber.submit(clip(2500, (Span(0, 25),)))
    with pytest.raises(ValueError, match="unreadable"):
        stalled.result(timeout=10)
    assert len(whole.result(timeout=10).words) == 50
    transcriber.close()
