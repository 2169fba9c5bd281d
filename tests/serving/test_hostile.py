"""Clients that are broken, slow or hostile end alone."""

import asyncio
import os
import signal
import subprocess
import time

import aiohttp
import imageio_ffmpeg
import numpy as np
import pytest

from nightscribe.serving import websockets
from nightscribe.serving.kyutai_messages import audio
from tests.serving.servers import (
    FRAME,
    NUM_SLOTS,
    SILENT_FRAME,
    connected,
    flush,
    heard,
    next_message,
    outline,
    send,
    until,
    until_free,
    words_of,
)

UPGRADE = (
    "GET /api/asr-streaming HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.fixture(scope="module")
def opus_pages():
    """Ogg pages of a sample and a second of silence, as a live encoder makes them: 60 ms each."""
    options = "-af apad=pad_dur=3 -c:a libopus -b:a 64k -page_duration 60000 -f ogg -"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", "samples/bella.opus"]
    data = subprocess.run([*command, *options.split()], check=True, capture_output=True).stdout
    starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.fixture(scope="module")
def opus_words(server, opus_pages):
    """Words and starts of the samples in the pages."""
    options = "-f ogg -i - -f s16le -ac 1 -ar 24000 -"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *options.split()]
    data = b"".join(opus_pages)
    sound = subprocess.run(command, input=data, check=True, capture_output=True).stdout
    found = asyncio.run(heard(server.port, np.frombuffer(sound, "<i2"), FRAME))
    return [word[:2] for word in words_of(found)]


@pytest.mark.parametrize(("num_pages", "pack"), [(1, list), (50, bytes)])
def test_ogg_opus_in_pages_gives_the_words_of_its_samples(
    server, opus_pages, opus_words, num_pages, pack
):
    async def talk():
        async with connected(server.port) as socket:
            await next_message(socket)
            for first in range(0, len(opus_pages), num_pages):
                data = b"".join(opus_pages[first : first + num_pages])
                await send(socket, type="OggOpus", data=pack(data))
            words = []
            while len(words) < len(opus_words):
                message = await next_message(socket)
                if message["type"] == "Word":
                    words.append([message["text"], message["start_time"]])
            return words

    assert len(opus_words) == 11
    assert asyncio.run(talk()) == opus_words


def test_bad_opus_ends_its_own_session_with_a_reason(server):
    async def talk():
        async with connected(server.port) as other, connected(server.port) as socket:
            await next_message(other), await next_message(socket)
            for _ in range(40):
                await send(socket, type="OggOpus", data=os.urandom(4096))
                await asyncio.sleep(0.05)
            error = (await until(socket, "Error"))[-1]
            assert (await socket.receive(5)).type == aiohttp.WSMsgType.CLOSE
            await other.send_bytes(audio(SILENT_FRAME))
            assert (await next_message(other))["type"] == "Step"
            return error["message"], socket.close_code

    text, code = asyncio.run(talk())
    assert "Opus" in text
    assert code == 1003


def test_samples_that_are_no_numbers_or_far_too_loud_stay_with_their_session(
    server, bella, reference
):
    async def loud(kind):
        async with connected(server.port) as socket:
            await next_message(socket)
            for first in range(0, len(bella), FRAME):
                floats = bella[first : first + FRAME].astype(float)
                if kind == "nan":
                    floats[::3] = [np.nan, np.inf, -np.inf, 1e30][first // FRAME % 4]
                await send(socket, type="Audio", pcm=floats.tolist())
            await flush(socket, 19)
            return await until(socket, "Marker")

    async def talk():
        return await asyncio.gather(loud("nan"), loud("int16"), heard(server.port, bella, FRAME))

    nan, int16, found = asyncio.run(talk())
    assert outline(found) == outline(reference)
    for one in (nan, int16):
        assert sum(message["type"] == "Step" for message in one) == sum(
            message["type"] == "Step" for message in reference
        )


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /api/asr-", UPGRADE.encode() + b"\x82\xfe\x25\x93" + bytes(400)],
    ids=["nothing", "half a request", "half a message"],
)
def test_a_client_that_stops_half_way_is_dropped(server, sent, monkeypatch):
    monkeypatch.setattr(websockets, "CLOSE_S", 0.3)

    async def talk(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 20)
        writer.close()

    with server.also(ping_s=0.4, dead_s=1.0, request_s=1.0) as strict:
        asyncio.run(talk(strict.port))


@pytest.mark.parametrize(
    "message",
    [
        b"\x91" * 100_000,
        b"\x82\xa4type\xa5Audio\xa3pcm\xdd\xff\xff\xff\xff" + bytes(100),
        b"\x82\xa4type\xa5Audio\xa3pcm\xc6\x7f\xff\xff\xff" + bytes(100),
        b"\xdf\xff\xff\xff\xff",
    ],
    ids=["deep", "array that is not there", "bytes that are not there", "map that is not there"],
)
def test_a_message_that_promises_too_much_ends_with_a_reason(server, message):
    async def talk():
        async with connected(server.port) as socket:
            await next_message(socket)
            await socket.send_bytes(message)
            return (await until(socket, "Error"))[-1]["message"]

    assert "not MessagePack" in asyncio.run(talk())


def test_a_slot_is_free_at_once_when_a_client_breaks_off_with_much_unread(server):
    async def talk():
        async with aiohttp.ClientSession() as http:
            socket = await http.ws_connect(f"ws://127.0.0.1:{server.port}/api/asr-streaming")
            await socket.send_bytes(audio(np.zeros(35 * 24_000, np.int16)))
            await socket.receive()
            socket._response.connection.transport.abort()
            await until_free(http, server.port, NUM_SLOTS)

    asyncio.run(talk())


def test_the_front_answers_while_the_engine_hangs(server):
    pid, loop_time = server.backend.engine._process.pid, time.monotonic

    async def talk():
        async with (
            connected(server.port, autoping=False) as socket,
            aiohttp.ClientSession() as http,
        ):
            await next_message(socket)
            os.kill(pid, signal.SIGSTOP)
            await socket.send_bytes(audio(SILENT_FRAME))
            began_s = loop_time()
            await socket.ping()
            while (await socket.receive(5)).type != aiohttp.WSMsgType.PONG:
                pass  # the server pings a client that is quiet, too
            async with connected(server.port) as other:
                assert await next_message(other) == {"type": "Ready"}
            found = await http.get(f"http://127.0.0.1:{server.port}/api/build_info")
            assert found.status == 200
            assert loop_time() - began_s < 5
            os.kill(pid, signal.SIGCONT)
            assert (await next_message(socket))["type"] == "Step"

    try:
        asyncio.run(talk())
    finally:
        os.kill(pid, signal.SIGCONT)


def test_many_connects_with_wrong_keys_leave_nothing(server):
    num_files = len(os.listdir("/proc/self/fd"))

    async def refused(http):
        answer = await http.get("/api/asr-streaming", headers={"Connection": "Upgrade"} | UPGRADES)
        return answer.status

    async def many(port):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            return {await refused(http) for _ in range(200)}

    with server.also(keys=("right",)) as keyed:
        assert asyncio.run(many(keyed.port)) == {401}
        assert keyed.backend.metrics.rejects.values == {"key": 200}
        assert keyed.backend.sockets == set()
    assert len(os.listdir("/proc/self/fd")) < num_files + 10
    assert server.backend.engine.num_used == 0


UPGRADES = {
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
