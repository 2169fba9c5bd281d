"""The client of the Kyutai protocol."""

import asyncio

import pytest

from nightscribe.errors import NightscribeError
from nightscribe.serving.client import LiveClient, LiveError
from tests.serving.servers import SILENT_FRAME


async def events(port, blocks):
    client = LiveClient(f"127.0.0.1:{port}")
    return [event async for event in client.transcribe(blocks)]


@pytest.mark.parametrize("num_blocks", [0, 3])
def test_a_microphone_that_fails_is_told_and_not_the_end_of_the_session(server, num_blocks):
    async def blocks():
        for _ in range(num_blocks):
            yield SILENT_FRAME
        raise NightscribeError("there is no microphone")

    with pytest.raises(NightscribeError, match="there is no microphone"):
        asyncio.run(events(server.port, blocks()))


def test_a_server_that_is_not_there_is_told():
    async def blocks():
        yield SILENT_FRAME

    with pytest.raises(LiveError, match="cannot be reached"):
        asyncio.run(events(1, blocks()))
