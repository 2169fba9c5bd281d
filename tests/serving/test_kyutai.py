"""The protocol of moshi-server, over real sockets and the small model."""

import asyncio
import random
from collections import deque
from types import SimpleNamespace

import aiohttp
import msgpack
import numpy as np
import pytest

from nightscribe.model.word_stream import WordBegin
from nightscribe.serving import kyutai
from nightscribe.serving.kyutai_messages import audio
from nightscribe.serving.session import FrameOutput
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

DELAY = 12  # steps, of the small model


def test_words_and_times_are_those_of_a_file(reference, bella, file_words):
    expected = [[word.text, word.start_s, word.end_s] for word in file_words]
    found = words_of(reference)
    # A session does not know where the recording ends.
    found[-1][2] = min(found[-1][2], len(bella) / 24_000)
    assert len(found) == 11
    assert found == [[text, pytest.approx(a), pytest.approx(b)] for text, a, b in expected]


@pytest.mark.parametrize("size", [480, 5000, 24_000, 10**7])
def test_the_sizes_of_messages_change_nothing(server, bella, reference, size):
    found = asyncio.run(heard(server.port, bella, size))
    assert outline(found) == outline(reference)


def test_samples_one_by_one_make_frames(server):
    async def talk():
        async with connected(server.port) as socket:
            await next_message(socket)
            for _ in range(FRAME + 1):
                await socket.send_bytes(audio(np.zeros(1, np.int16)))
            await socket.send_bytes(audio(np.zeros(FRAME - 1, np.int16)))
            return [await next_message(socket) for _ in range(2)]

    assert [one["step_idx"] for one in asyncio.run(talk())] == [1, 2]


def test_silence_alone_gives_steps_and_no_word(server):
    found = asyncio.run(heard(server.port, np.zeros(30 * FRAME, np.int16), FRAME))
    assert {one["type"] for one in found} == {"Step", "Marker"}


def test_a_recording_that_ends_within_a_word_still_ends(server, bella, reference):
    found = asyncio.run(heard(server.port, bella[: 24 * FRAME], FRAME))
    words = words_of(found)
    assert [text for text, *_ in words[:4]] == [text for text, *_ in words_of(reference)[:4]]
    assert all(end is not None and end >= start for _, start, end in words)


def test_a_model_without_vad_heads_sends_no_step():
    session = SimpleNamespace(num_buffered=0, end_word=list)
    sent = []
    connection = kyutai._Connection(
        SimpleNamespace(session=lambda *_, **__: session),
        SimpleNamespace(send=sent.append),
        SimpleNamespace(word=lambda text: None),
        with_details=False,
        markers=deque([(1, 5)]),
    )
    connection._on_frame(FrameOutput(1, np.zeros(0, np.float32), [WordBegin("so", 0.4, 1.0)]))
    assert [msgpack.unpackb(one)["type"] for one in sent] == ["Word", "Marker"]


def test_one_step_a_frame_and_all_within_bounds(reference, bella):
    steps = [one for one in reference if one["type"] == "Step"]
    fed = len(bella) + 19 * FRAME
    assert [one["step_idx"] for one in steps] == list(range(1, fed // FRAME + DELAY + 1))
    assert all(len(one["prs"]) == 4 and min(one["prs"]) >= 0 for one in steps)
    assert all(max(one["prs"]) <= 1 for one in steps)
    assert all(one["buffered_pcm"] >= 0 for one in steps)


def test_the_order_within_a_step(reference):
    kinds = [one["type"] for one in reference]
    assert kinds[-1] == "Marker"
    assert "Word" in kinds[kinds.index("Step") :]
    assert kinds.index("Word") < kinds.index("EndWord")


async def together(port, clips, seed):
    """Sessions side by side that send pieces of random sizes at random times."""
    draw = random.Random(seed)

    async def one(samples_N):
        async with connected(port) as socket:
            await next_message(socket)
            first = 0
            while first < len(samples_N):
                size = draw.randint(1, 9000)
                await socket.send_bytes(audio(samples_N[first : first + size]))
                first += size
                await asyncio.sleep(draw.random() * 0.02)
            await flush(socket, 19)
            return await until(socket, "Marker")

    return await asyncio.gather(*map(one, clips))


def test_parallel_sessions_get_the_words_of_each_alone(server, bella, reference):
    other = bella[::-1].copy()
    found = asyncio.run(together(server.port, [bella, other, bella, other], 0))
    alone = asyncio.run(heard(server.port, other, FRAME))
    for one, expected in zip(found, [reference, alone, reference, alone], strict=True):
        assert words_of(one) == words_of(expected)
        assert len(one) == len(expected)


def test_a_marker_waits_for_its_own_streams_delay_and_never_for_others(server):
    async def talk():
        async with connected(server.port) as busy, connected(server.port) as quiet:
            await next_message(busy), await next_message(quiet)
            await send(quiet, type="Marker", id=7)
            await busy.send_bytes(audio(np.zeros(40 * FRAME, np.int16)))
            await until_step(busy, 40)
            with pytest.raises(TimeoutError):
                await quiet.receive(0.2)
            await quiet.send_bytes(audio(np.zeros(DELAY * FRAME, np.int16)))
            return await until(quiet, "Marker")

    found = asyncio.run(talk())
    assert [one["type"] for one in found] == ["Step"] * DELAY + ["Marker"]
    assert found[-1]["id"] == 7


async def until_step(socket, step):
    while (await next_message(socket)).get("step_idx") != step:
        pass


def test_a_marker_before_every_frame_comes_back_in_order(server):
    ids = [-(2**63), 2**63 - 1, *range(28)]

    async def talk():
        async with connected(server.port) as socket:
            await next_message(socket)
            for id in ids:
                await send(socket, type="Marker", id=id)
                await socket.send_bytes(audio(SILENT_FRAME))
            await socket.send_bytes(audio(np.zeros(DELAY * FRAME, np.int16)))
            found, step = [], 0
            while len(found) < len(ids):
                message = await next_message(socket)
                step = message.get("step_idx", step)
                if message["type"] == "Marker":
                    found.append((message["id"], step))
            return found

    assert asyncio.run(talk()) == [(id, DELAY + index) for index, id in enumerate(ids)]


def test_init_in_mid_stream_begins_again_at_0(server, bella, reference):
    async def talk():
        async with connected(server.port) as socket:
            await next_message(socket)
            await socket.send_bytes(audio(bella[: 20 * FRAME]))
            await until_step(socket, 20)
            await send(socket, type="Init")
            await until(socket, "Ready")
            await socket.send_bytes(audio(bella))
            await flush(socket, 19)
            return await until(socket, "Marker")

    assert outline(asyncio.run(talk())) == outline(reference)


def test_a_full_server_says_so_first_and_at_once_and_a_slot_comes_back(server, bella, reference):
    async def talk():
        loop, sockets = asyncio.get_running_loop(), []
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{server.port}/api/asr-streaming"
            for _ in range(NUM_SLOTS):
                sockets.append(await http.ws_connect(url))
                assert await next_message(sockets[-1]) == {"type": "Ready"}
            began_s = loop.time()
            refused = await http.ws_connect(url)
            first = await next_message(refused)
            assert loop.time() - began_s < 2
            assert first == {"type": "Error", "message": "no free channels"}
            assert (await refused.receive(5)).type == aiohttp.WSMsgType.CLOSE
            facts = await (
                await http.get(f"http://127.0.0.1:{server.port}/api/modules_info")
            ).json()
            assert (facts[0]["used_slots"], facts[0]["total_slots"]) == ("4", "4")
            for socket in sockets[:-1]:
                await socket.send_bytes(audio(bella[:FRAME]))
            sockets[-1]._response.connection.transport.abort()
            await sockets[0].close()
            await until_free(http, server.port, 2)
            for socket in sockets[1:-1]:
                await socket.close()
            await until_free(http, server.port, 4)
        return await heard(server.port, bella, FRAME)

    # Nothing of the sessions before is in this one.
    assert outline(asyncio.run(talk())) == outline(reference)
