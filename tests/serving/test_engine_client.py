"""A channel keeps count of its streams, and nobody waits for an engine that has ended."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from nightscribe.serving.engine_client import Channel, EngineClient
from nightscribe.serving.engine_process import CANCEL
from nightscribe.serving.rings import Rings, RingShape

FRAME = 8


@pytest.fixture
def engine():
    sent = []
    rings = Rings.create(RingShape(1, 4, FRAME))
    return SimpleNamespace(rings=rings, sent=sent, send=sent.append, failure="", _open={})


@pytest.fixture
def channel(engine):
    engine._open[0] = Channel(engine, 0, False, lambda steps: None, lambda reason: None)
    return engine._open[0]


def test_the_end_of_every_cancelled_stream_is_waited_for(engine, channel):
    channel.write(np.ones(2 * FRAME, np.int16))
    channel.restart({})
    channel.release()
    channel.release()
    kinds = [kind for kind, *_ in engine.sent]
    assert channel.num_cancelled == kinds.count(CANCEL) == 2


def test_who_waits_for_room_goes_on_when_the_engine_ends(engine, channel):
    async def talk():
        engine._on_ready, engine._wake = asyncio.Future(), lambda: None
        engine._on_ready.set_result(1)
        writing = asyncio.create_task(channel.write_all(np.ones(6 * FRAME, np.int16)))
        await asyncio.sleep(0)
        EngineClient._fail(engine, "killed")
        await asyncio.wait_for(writing, 5)

    asyncio.run(talk())
    assert channel.num_waiting == 4
