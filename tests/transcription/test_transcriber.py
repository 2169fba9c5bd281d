import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import numpy as np
import pytest

from nightscribe.engine.stream import Stream
from nightscribe.model.sampling import TokenConstraints
from nightscribe.transcription.clips import Clip
from nightscribe.transcription.requests import RequestQueue
from tests.fakes import HashingModel, hashing_transcriber, tokens_alone

FRAME = 1920


def clips_of(count, seed=0):
    draws = np.random.default_rng(seed)
    return [
        Clip(f"clip-{i}", draws.integers(-999, 999, draws.integers(1, 40 * FRAME)).astype(np.int16))
        for i in range(count)
    ]


def expected_tokens(clip):
    num_frames = 1 + -(-len(clip.samples_N) // FRAME) + 2
    padded_N = np.pad(clip.samples_N, (FRAME, 0))
    return tokens_alone(Stream(0, padded_N, num_frames), FRAME)


def assert_heard(heard, clips):
    assert {one.clip_id for one in heard} == {clip.clip_id for clip in clips}
    by_id = {clip.clip_id: clip for clip in clips}
    for one in heard:
        assert one.tokens_T.tolist() == expected_tokens(by_id[one.clip_id])


@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_clips_are_transcribed_between_their_silences_whatever_the_slots(num_slots):
    clips = clips_of(30)
    assert_heard(list(hashing_transcriber(num_slots).transcribe(clips)), clips)


def test_words_stand_in_seconds_of_the_clip():
    (heard,) = hashing_transcriber(2).transcribe([Clip("a", np.ones(3 * FRAME, np.int16))])
    assert [word.start_s for word in heard.words] == pytest.approx([0, 0.08, 0.16])
    assert heard.num_steps == 1 + 1 + 3 + 2


def test_submitted_clips_come_back_as_if_transcribed():
    clips, transcriber = clips_of(50, seed=1), hashing_transcriber(4)
    futures = [transcriber.submit(clip) for clip in clips[:25]]
    wait_for(futures)
    futures += [transcriber.submit(clip) for clip in clips[25:]]
    transcriber.close()
    assert_heard([future.result(timeout=0) for future in futures], clips)
    with pytest.raises(RuntimeError, match="closed"):
        transcriber.submit(clips[0])


def test_one_engine_serves_one_caller_at_a_time():
    transcriber = hashing_transcriber(2)
    transcriber.submit(clips_of(1)[0]).result(timeout=10)
    with pytest.raises(RuntimeError, match="submit"):
        next(transcriber.transcribe(clips_of(1)))
    transcriber.close()


def test_a_broken_model_fails_every_waiting_and_every_later_clip(monkeypatch):
    monkeypatch.setattr(HashingModel, "run", _broken)
    transcriber = hashing_transcriber(2)
    futures = [transcriber._queue.add(clip) for clip in clips_of(5)]
    for future in [*futures, transcriber.submit(clips_of(1)[0])]:
        with pytest.raises(MemoryError, match="no room"):
            future.result(timeout=10)
    with pytest.raises(RuntimeError, match="closed"):
        transcriber.submit(clips_of(1)[0])


def _broken(*_):
    raise MemoryError("no room")


def test_a_clip_whose_words_cannot_be_read_fails_alone():
    def unreadable(clip, heard):
        if clip.clip_id == "clip-1":
            raise ValueError("unreadable")
        return []

    transcriber = hashing_transcriber(2)
    object.__setattr__(transcriber._adapter, "read_words", unreadable)
    first, second, third = (transcriber.submit(clip) for clip in clips_of(3))
    with pytest.raises(ValueError, match="unreadable"):
        second.result(timeout=10)
    assert first.result(timeout=10).words == third.result(timeout=10).words == ()
    transcriber.close()


def test_words_are_read_beside_the_engine_and_never_hold_it_up():
    engine_went_on, threads = threading.Event(), set()

    def read(clip, heard):
        threads.add(threading.current_thread().name)
        if clip.clip_id == "clip-0":
            assert engine_went_on.wait(timeout=20)
        return []

    def input_samples(clip):
        if clip.clip_id == "clip-3":  # taken by the engine while the words of clip-0 are read
            engine_went_on.set()
        return clip.samples_N

    transcriber = hashing_transcriber(1)
    object.__setattr__(transcriber._adapter, "read_words", read)
    object.__setattr__(transcriber._adapter, "input_samples", input_samples)
    futures = [transcriber.submit(clip) for clip in clips_of(4)]
    assert [future.result(timeout=20).clip_id for future in futures][:1] == ["clip-0"]
    assert len(threads) == 1
    assert "nightscribe-engine" not in threads
    transcriber.close()


def as_it_is(begun):
    return begun


def test_a_pass_that_is_queued_after_the_end_of_all_clips_is_still_made():
    queue = RequestQueue(as_it_is)
    request: Future = queue.add(clips_of(1)[0])
    begun = queue.take(wait=True)
    queue.close()
    with ThreadPoolExecutor(1) as engine:
        following = engine.submit(queue.take, wait=True)
        assert not following.done()
        queue.retry(begun)
        assert following.result(timeout=10) is begun
        last = engine.submit(queue.take, wait=True)
        assert not last.done()
        queue.finish(begun.request, ValueError("enough"))
        assert last.result(timeout=10) is None
    with pytest.raises(ValueError, match="enough"):
        request.result(timeout=0)


def test_a_clip_whose_constraints_cannot_be_made_fails_alone():
    def unspeakable(clip):
        if clip.clip_id == "clip-1":
            raise ValueError("unspeakable")
        return TokenConstraints()

    transcriber = hashing_transcriber(2)
    object.__setattr__(transcriber._adapter, "constraints", unspeakable)
    clips = clips_of(3)
    first, second, third = map(transcriber.submit, clips)
    with pytest.raises(ValueError, match="unspeakable"):
        second.result(timeout=10)
    assert_heard([first.result(timeout=10), third.result(timeout=10)], [clips[0], clips[2]])
    assert not transcriber.has_died
    transcriber.close()


def test_a_cancelled_clip_is_never_transcribed():
    transcriber = hashing_transcriber(1)
    request: Future = transcriber._queue.add(clips_of(1)[0])
    assert request.cancel()
    assert_heard([transcriber.submit(clips_of(2)[1]).result(timeout=10)], clips_of(2)[1:])
    transcriber.close()


def test_samples_that_no_model_takes_are_refused():
    with pytest.raises(ValueError, match="int16 samples, got float32"):
        Clip("a", np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="no samples"):
        Clip("a", np.zeros(0, np.int16))
