"""The shards of a file on a server: several at once, in order, and none is left behind."""

import asyncio
from contextlib import aclosing
from types import SimpleNamespace

import numpy as np
import pytest

from nightscribe.serving.engine_client import EngineError, Steps
from nightscribe.serving.files import SHARDS_AHEAD, Files, TooLargeError, _Collected

NUM_SLOTS = 2


class Transcribing(Files):
    """Pieces are numbers; the later ones are done first."""

    running = most_running = 0

    async def _pieces(self, path, config):
        for number in range(9):
            yield number

    async def _transcribe(self, piece, recording):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0.05 / (1 + piece))
        finally:
            self.running -= 1
        return piece


@pytest.fixture
def transcribing():
    return Transcribing(None, None, None, SimpleNamespace(num_file_slots=NUM_SLOTS), None)


def test_shards_come_in_order_and_as_many_as_may_are_transcribed_at_once(transcribing, tmp_path):
    async def heard():
        return [one async for one in transcribing.shards(tmp_path, None)]

    assert asyncio.run(heard()) == list(range(9))
    assert transcribing.most_running == NUM_SLOTS + SHARDS_AHEAD


def test_who_goes_away_leaves_no_shard_behind(transcribing, tmp_path):
    async def first():
        async with aclosing(transcribing.shards(tmp_path, None)) as shards:
            return await anext(shards)

    assert asyncio.run(first()) == 0
    assert transcribing.running == 0


class EndingBadly(Transcribing):
    """The file turns out to be too long while its first shards are transcribed."""

    async def _pieces(self, path, config):
        yield 0
        yield 1
        raise TooLargeError("the file lasts more than 1 s")


def test_a_file_that_turns_out_too_long_is_refused_with_that_reason(tmp_path):
    refusing = EndingBadly(None, None, None, SimpleNamespace(num_file_slots=NUM_SLOTS), None)

    async def heard():
        return [one async for one in refusing.shards(tmp_path, None)]

    with pytest.raises(TooLargeError, match="more than 1 s"):
        asyncio.run(heard())
    assert refusing.running == 0


def test_a_pass_ends_once_with_its_last_step_or_with_the_engine():
    async def ended():
        whole, broken = _Collected(), _Collected()
        whole.add(Steps(0, [7], [0.5], np.zeros((1, 4)), True))
        whole.fail("killed")
        broken.fail("killed")
        broken.fail("killed again")
        with pytest.raises(EngineError, match=r"has ended: killed$"):
            await broken.all()
        return (await whole.all())[0].tolist()

    assert asyncio.run(ended()) == [7]
