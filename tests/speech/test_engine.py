"""Words may come at any time: what is spoken depends on the words alone."""

import threading
import time

import numpy as np
import pytest

from nightscribe.speech.batch import Batch
from nightscribe.speech.engine import SpeechEngine, SpeechEngineError
from nightscribe.speech.requests import Speech, SpeechRequest
from tests.speech.checkpoints import write_voiced_checkpoint
from tests.speech.test_synthesizer import load

TEXT = 'the night is long and the scribe <break time="0.3s"/> writes on until the morning'
WAIT_S = 240  # on a machine that does much else


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_voiced_checkpoint(tmp_path_factory.mktemp("speech"))


def request_of(name, *turns, voice="ann", seed=0):
    return SpeechRequest(request_id=name, turns=turns, voices=(voice,), seed=seed)


class Heard:
    """Everything that an engine says about one text."""

    def __init__(self):
        self.outputs, self.ended = [], threading.Event()

    def __call__(self, output):
        self.outputs.append(output)
        if output.is_last:
            self.ended.set()

    def samples(self):
        assert self.ended.wait(WAIT_S)
        return np.concatenate([output.samples_N for output in self.outputs])

    def words(self):
        return [word for output in self.outputs for word in output.words]


@pytest.fixture
def engine(folder):
    engine = SpeechEngine(load(folder, 2, 0.8).batch())
    yield engine
    if not engine.has_died:
        engine.close()


@pytest.fixture(scope="module")
def whole(folder) -> Speech:
    (speech,) = load(folder, 1, 0.8).speak([request_of("whole", TEXT)])
    assert isinstance(speech, Speech)
    return speech


WORDS = [word.replace("#", " ") for word in TEXT.replace("<break ", "<break#").split()]


@pytest.mark.parametrize("pieces", [[TEXT], WORDS], ids=["whole", "by word"])
def test_words_that_come_one_by_one_sound_like_the_whole_text(engine, whole, pieces):
    heard, other = Heard(), Heard()
    engine.open(request_of("beside", "one two three four five", voice="bob"), other)
    stream = engine.open(request_of("live"), heard, is_whole=False)
    for piece in pieces:
        engine.append(stream, piece)
        time.sleep(0.01)
    engine.finish(stream)
    np.testing.assert_allclose(heard.samples(), whole.samples_N, atol=1e-5)
    spoken = [word for word in heard.words() if not word.is_break]
    assert spoken == list(whole.words)
    assert other.ended.wait(WAIT_S)


def test_a_text_that_waits_for_words_holds_its_slot_and_nobody_else(engine):
    waiting, other = Heard(), Heard()
    stream = engine.open(request_of("waits"), waiting, is_whole=False)
    engine.append(stream, "one two three")
    engine.open(request_of("other", "he counts the waves"), other)
    assert other.ended.wait(WAIT_S)
    assert not waiting.ended.is_set()
    num_steps = engine.stats.num_steps
    time.sleep(0.1)
    assert engine.stats.num_steps == num_steps
    engine.finish(stream)
    assert waiting.ended.wait(WAIT_S)
    assert [word.text for word in waiting.words()] == ["one", "two", "three"]


def test_a_text_alone_in_two_slots_keeps_half_of_them_busy(engine):
    heard = Heard()
    engine.finish(engine.open(request_of("alone", "one two"), heard, is_whole=False))
    assert heard.ended.wait(WAIT_S)
    engine.close()
    assert 0 < 2 * engine.stats.num_live_steps == engine.stats.num_slot_steps


def test_a_text_that_waits_for_a_slot_begins_when_all_others_end_in_one_step(engine):
    are_queued = threading.Event()

    def never() -> bool:
        are_queued.wait(WAIT_S)
        return False

    engine.open(request_of("holds until all are queued", "one"), Heard(), may_begin=never)
    equal = [Heard() for _ in range(3)]
    for heard in equal:
        engine.open(request_of("equal", "one two"), heard)
    are_queued.set()
    assert all(heard.ended.wait(WAIT_S / 4) for heard in equal)


def test_a_cancelled_text_frees_its_slot(engine):
    first, second = Heard(), Heard()
    streams = [engine.open(request_of(name), first, is_whole=False) for name in "ab"]
    engine.open(request_of("c", "one"), second)
    assert not second.ended.wait(0.2)
    engine.cancel(streams[0])
    assert second.ended.wait(WAIT_S)
    assert first.outputs == []


def test_what_cannot_be_spoken_ends_one_text_and_no_other(engine):
    bad, good = Heard(), Heard()
    stream = engine.open(request_of("bad"), bad, is_whole=False)
    engine.append(stream, "one two three four")
    engine.append(stream, 'five <break time="1,5s"/>')
    engine.open(request_of("good", "one two"), good)
    assert bad.ended.wait(WAIT_S)
    assert "1,5s" in str(bad.outputs[-1].error)
    assert good.ended.wait(WAIT_S)
    assert good.outputs[-1].error is None


def test_an_engine_that_dies_says_so_to_every_text(engine, monkeypatch):
    def broken(batch):
        raise RuntimeError("no memory")

    heard = Heard()
    monkeypatch.setattr(Batch, "step", broken)
    engine.open(request_of("a", "one"), heard)
    assert heard.ended.wait(WAIT_S)
    assert isinstance(heard.outputs[-1].error, SpeechEngineError)
    assert engine.has_died
    with pytest.raises(SpeechEngineError):
        engine.open(request_of("b", "one"), heard)
