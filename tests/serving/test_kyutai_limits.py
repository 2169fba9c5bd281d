"""Who may connect to the protocol of moshi-server, and what ends a session."""

import asyncio
import json
import socket as socket_module

import aiohttp
import msgpack
import numpy as np
import pytest

from nightscribe.serving.kyutai_messages import audio
from tests.serving.servers import (
    FRAME,
    SILENT_FRAME,
    connected,
    heard,
    next_message,
    outline,
    send,
    until,
    words_of,
)


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"kyutai-api-key": "k1"}, "", 101),
        ({"Authorization": "Bearer k2"}, "", 101),
        ({}, "?auth_id=k1&format=PcmMessagePack", 101),
        ({}, "", 401),
        ({}, "?auth_id=k3", 401),
        ({"kyutai-api-key": "k3"}, "?auth_id=k1", 401),
        ({"kyutai-api-key": "k1", "Origin": "https://elsewhere.example"}, "", 403),
        ({"kyutai-api-key": "k1", "Origin": "https://friend.example"}, "", 101),
    ],
)
def test_keys_and_origins(keyed, headers, query, status):
    async def talk():
        async with connected(keyed.port, f"/api/asr-streaming{query}", headers=headers) as socket:
            return socket._response.status

    if status == 101:
        assert asyncio.run(talk()) == 101
    else:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            asyncio.run(talk())
        assert refused.value.status == status


@pytest.fixture(scope="module")
def keyed(server):
    with server.also(keys=("k1", "k2"), origins=("https://friend.example",)) as one:
        yield one


def test_http_without_an_upgrade_and_the_pages_of_facts(keyed):
    async def ask():
        async with aiohttp.ClientSession(f"http://127.0.0.1:{keyed.port}") as http:
            plain = await http.get("/api/asr-streaming")
            wrong = await http.put("/api/asr-streaming")
            build = await http.get("/api/build_info")
            return plain.status, wrong.status, build.status, await build.json()

    plain, wrong, build, facts = asyncio.run(ask())
    assert (plain, wrong, build) == (400, 405, 200)
    assert len(facts) == 10
    assert all(isinstance(value, str) for value in facts.values())


def test_no_compression_is_negotiated(server):
    async def talk():
        async with connected(server.port, compress=15) as socket:
            return socket.compress, socket._response.headers.get("Sec-WebSocket-Extensions")

    assert asyncio.run(talk()) == (0, None)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xc1\xc1", "not MessagePack"),
        (msgpack.packb({"type": "Speak"}), "its type"),
        (b"\x00" * 2**20, "extra data"),
    ],
)
def test_garbage_ends_its_own_session_with_a_reason(server, message, reason):
    async def talk():
        async with connected(server.port) as other, connected(server.port) as socket:
            await next_message(other), await next_message(socket)
            await socket.send_bytes(message)
            (error,) = await until(socket, "Error")
            assert (await socket.receive(5)).type == aiohttp.WSMsgType.CLOSE
            await other.send_bytes(audio(SILENT_FRAME))
            assert (await next_message(other))["type"] == "Step"
            return error["message"], socket.close_code

    text, code = asyncio.run(talk())
    assert reason in text
    assert code == 1003


def test_text_frames_and_pings_are_ignored_or_answered(server):
    async def talk():
        async with connected(server.port, autoping=False) as socket:
            await next_message(socket)
            await socket.send_str("hello")
            await send(socket, type="Ping")
            await socket.ping(b"are you there")
            pong = await socket.receive(5)
            await socket.send_bytes(audio(SILENT_FRAME))
            return pong, await next_message(socket)

    pong, step = asyncio.run(talk())
    assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"are you there")
    assert step["step_idx"] == 1


def test_a_message_beyond_the_limit_ends_with_its_code(server):
    async def talk(port):
        async with connected(port) as socket:
            await next_message(socket)
            await socket.send_bytes(audio(np.zeros(30_000, np.int16)))
            return (await socket.receive(5)).type, socket.close_code

    with server.also(max_message_bytes=100_000) as small:
        assert asyncio.run(talk(small.port)) == (aiohttp.WSMsgType.CLOSE, 1009)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"first_audio_s": 0.3}, "no audio within 0.3 s"),
        ({"idle_s": 0.3}, "no audio for 0.3 s"),
        ({"max_session_s": 0.4}, "at most 0.4 s"),
    ],
)
def test_sessions_without_an_end_are_ended(server, limits, reason):
    async def talk(port):
        async with connected(port) as socket:
            await next_message(socket)
            if "first_audio_s" not in limits:
                await socket.send_bytes(audio(SILENT_FRAME))
            return (await until(socket, "Error"))[-1]["message"]

    with server.also(**limits, ping_s=0.4) as strict:
        assert reason in asyncio.run(talk(strict.port))


def test_a_client_that_does_not_answer_pings_is_dropped_and_one_that_does_stays(server):
    async def talk(port, autoping):
        async with connected(port, autoping=autoping) as socket:
            await socket.send_bytes(audio(SILENT_FRAME))
            message = {"type": "Step"}
            while message["type"] != "Error":
                received = await socket.receive(30)
                if received.type != aiohttp.WSMsgType.PING:
                    message = msgpack.unpackb(received.data)
            return message["message"]

    with server.also(ping_s=0.2, dead_s=1.0) as strict:
        assert "nothing was received" in asyncio.run(talk(strict.port, autoping=False))
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(talk(strict.port, autoping=True), 2.5))


async def never_reading(port):
    """A connection after its handshake, with small buffers; nothing reads from it."""
    plain = socket_module.socket()
    plain.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 2048)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    _, writer = await asyncio.open_connection(sock=plain, limit=1024)
    lines = [
        "GET /api/asr-streaming HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    return writer


def masked(message):
    """A binary WebSocket frame with a mask of zeros."""
    return b"\x82\xfe" + len(message).to_bytes(2) + bytes(4) + message


def test_a_client_that_never_reads_ends_and_disturbs_nobody(server, bella, reference):
    async def talk(strict):
        writer = await never_reading(strict.port)
        for id in range(100):
            writer.write(masked(audio(SILENT_FRAME)))
            many = b"".join(short(msgpack.packb({"type": "Marker", "id": id})) for _ in range(40))
            writer.write(many)
        found = await heard(server.port, bella, FRAME)
        for _ in range(300):
            if strict.backend.metrics.ends.values:
                break
            await asyncio.sleep(0.1)
        writer.transport.abort()
        return found

    with server.also(max_pending_messages=100) as strict:
        strict.site._server.sockets[0].setsockopt(
            socket_module.SOL_SOCKET, socket_module.SO_SNDBUF, 2048
        )
        found = asyncio.run(talk(strict))
        assert strict.backend.metrics.ends.values == {"slow_reader": 1}
    assert outline(found) == outline(reference)


def short(message):
    """As `masked`, for fewer than 126 bytes."""
    return b"\x82" + bytes([0x80 | len(message)]) + bytes(4) + message


def test_one_key_has_as_many_sessions_as_it_may(server):
    async def talk(port):
        async with connected(port, headers={"kyutai-api-key": "a"}) as first:
            await next_message(first)
            async with connected(port, headers={"kyutai-api-key": "a"}) as second:
                error = await next_message(second)
            async with connected(port, headers={"kyutai-api-key": "b"}) as other:
                return error, await next_message(other)

    with server.also(keys=("a", "b"), max_key_sessions=1) as limited:
        error, ready = asyncio.run(talk(limited.port))
    assert (error["type"], ready["type"]) == ("Error", "Ready")


def test_a_whole_file_as_a_body(keyed, file_words):
    async def ask(headers, data):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{keyed.port}") as http:
            answer = await http.post("/api/asr-streaming", data=data, headers=headers)
            return answer.status, await answer.text()

    with open("samples/bella.opus", "rb") as file:
        data = file.read()
    assert asyncio.run(ask({}, data))[0] == 401
    status, text = asyncio.run(ask({"kyutai-api-key": "k1"}, data))
    assert status == 200
    words = words_of(json.loads(text))
    assert words == [[w.text, pytest.approx(w.start_s), pytest.approx(w.end_s)] for w in file_words]
    status, text = asyncio.run(ask({"kyutai-api-key": "k1"}, b"not a sound"))
    assert (status, "cannot be decoded" in text) == (400, True)


def test_metrics_have_moshi_servers_names(server):
    async def ask():
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:
            answer = await http.get("/metrics")
            return answer.headers["Content-Type"], await answer.text()

    kind, text = asyncio.run(ask())
    assert kind.startswith("text/plain")
    for name in (
        'asr_connect{handler="all"}',
        'asr_open_channels{handler="all"}',
        'asr_model_step_duration_bucket{le="0.02"}',
        'asr_model_step_duration_bucket{le="0.08"}',
        'asr_connection_num_steps_bucket{le="4500"}',
        'asr_connection_num_steps_bucket{le="+Inf"}',
    ):
        assert f"\n{name} " in text
    assert "_total" not in text
