"""Live serving on a real Ray Serve: fronts, engines with the small model, clients of both."""

import asyncio
import json
import os
import signal
import time
import warnings
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from nightscribe.cluster.serving.config import RayServeConfig
from nightscribe.cluster.serving.directory import EngineReport
from nightscribe.jobs.file import read_audio
from nightscribe.serving.client import LiveClient, LiveError, LiveWord
from nightscribe.serving.kyutai_messages import audio
from tests.jobs.test_submit import free_port
from tests.serving.servers import FRAME, SILENT_FRAME, connected, next_message, settings, until

pytest.importorskip("fastapi")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, about Ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from nightscribe.cluster.serving.application import (
        NAME,
        ServeError,
        application,
        check_gpus,
        fronts,
        known_engines,
    )
    from nightscribe.cluster.serving.engine_node import EngineSettings
    from tests.cluster.serving.fronts import local_front
from nightscribe.jobs.serve import log_to_stderr

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
KEY = {"kyutai-api-key": "k1"}
TEXT = "play this sorry your music is not right please try again"
SLOTS = 4


def engine_settings(**scale):
    # The tests do not read their sockets while they wait, and so answer no pings.
    server = settings(keys=("k1",), host="127.0.0.1", dead_s=600, idle_s=600)
    return EngineSettings(
        server=server,
        scale=RayServeConfig(ray=True, cpus_per_engine=0.5, engine_port=0, **scale),
        start_logs=partial(log_to_stderr, "json"),
    )


@pytest.fixture(scope="module")
def proxy(local_ray):
    """The port of Ray Serve's proxy."""
    port = free_port()
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    yield port
    serve.shutdown()


@pytest.fixture(scope="module", params=["alone", pytest.param("serve", marks=pytest.mark.slow)])
def front(request):
    """The port of a front without engines, and the directory to which the tests report them."""
    asked = engine_settings(fronts=1)
    if request.param == "alone":
        port = free_port()
        with local_front(asked, port) as directory:
            yield port, directory
        return
    port = request.getfixturevalue("proxy")
    serve.run(fronts(asked, known_engines(), None), name=NAME)
    yield port, serve.get_deployment_handle("directory", NAME)
    serve.delete(NAME)


def report(directory, num_used=0, **more):
    directory.report.remote(
        EngineReport(
            engine_id="a",
            address="127.0.0.1:9",
            num_slots=SLOTS,
            num_used=num_used,
            num_connects=0,
            **more,
        )
    ).result()


def answer_of(port, path, method="GET", headers=KEY):
    async def ask():
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:
            answer = await http.request(method, path, allow_redirects=False)
            return answer.status, answer.headers, await answer.text()

    return asyncio.run(ask())


def test_a_front_sends_sessions_with_a_ticket_to_the_engine_and_nobody_else(front):
    proxy, directory = front
    report(directory)
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    path = "/api/asr-streaming?details=1"
    status, headers, _ = answer_of(proxy, path, headers=KEY | upgrade)
    assert status == 307
    assert headers["Location"].startswith("//127.0.0.1:9/api/asr-streaming?details=1&ticket=")
    assert "k1" not in headers["Location"]
    assert answer_of(proxy, path, headers=upgrade)[0] == 401
    bearer = {"Authorization": "Bearer k1"}
    assert answer_of(proxy, "/v1/audio/transcriptions", "POST", bearer)[0] == 307
    # A page has no key; the engine decides.
    assert answer_of(proxy, "/", headers={})[1]["Location"] == "//127.0.0.1:9/"
    assert answer_of(proxy, "/api/build_info", headers={})[0] == 200
    assert answer_of(proxy, "/api/engines", headers={})[0] == 401


def test_a_full_cluster_is_told_in_the_clients_protocol(front):
    proxy, directory = front
    report(directory, num_used=SLOTS)

    async def talk():
        async with connected(proxy, headers=KEY) as socket:
            error = await next_message(socket)
            assert (await socket.receive(5)).type == aiohttp.WSMsgType.CLOSE
            return error, socket.close_code

    error = {"type": "Error", "message": "no free channels"}
    assert asyncio.run(talk()) == (error, 1013)
    status, headers, _ = answer_of(proxy, "/api/engine")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert answer_of(proxy, "/health")[0] == 200
    report(directory, is_draining=True)
    assert answer_of(proxy, "/health")[0] == 503
    assert answer_of(proxy, "/v1/models")[0] == 503


def test_a_ray_without_a_gpu_is_told_before_anything_waits_for_one(local_ray):
    with pytest.raises(ServeError, match=r"engine\.device=cpu"):
        check_gpus(1.0)
    check_gpus(0.0)


class Cluster:
    """A running application with engines."""

    def __init__(self, port):
        self.port = port
        self.directory = serve.get_deployment_handle("directory", NAME)

    def engines(self):
        return self.directory.engines.remote().result()

    async def until_engines(self, count, timeout_s=120):
        """Wait until this many take sessions."""
        end_s = time.monotonic() + timeout_s
        while True:
            found = await asyncio.to_thread(self.engines)
            if sum(not one["is_draining"] for one in found) == count:
                return found
            assert time.monotonic() < end_s, found
            await asyncio.sleep(0.3)


@pytest.fixture(scope="module")
def cluster(proxy):
    scale = {"min_engines": 1, "max_engines": 2, "target_share": 0.5}
    given = engine_settings(**scale, upscale_delay_s=0.5, downscale_delay_s=0.5, drain_s=120)
    serve.run(application(given), name=NAME)
    yield Cluster(proxy)
    serve.delete(NAME)


@pytest.mark.slow
def test_clients_hear_the_words_of_a_file_through_a_redirect(cluster):
    bella = read_audio("samples/bella.opus")

    async def blocks():
        for first in range(0, len(bella), FRAME):
            yield bella[first : first + FRAME]

    async def words(key):
        client = LiveClient(f"http://127.0.0.1:{cluster.port}", key)
        return [one.text async for one in client.transcribe(blocks()) if isinstance(one, LiveWord)]

    assert " ".join(asyncio.run(words("k1"))) == TEXT
    with pytest.raises(LiveError, match="key"):
        asyncio.run(words("k2"))


@pytest.mark.slow
def test_openais_client_follows_redirects_of_files_and_asks_for_an_engine_for_realtime(cluster):
    import openai

    url = f"http://127.0.0.1:{cluster.port}/v1"
    client = openai.OpenAI(api_key="k1", base_url=url)
    with open("samples/bella.opus", "rb") as file:
        assert client.audio.transcriptions.create(file=file, model="tiny").text == TEXT
    assert [one.id for one in client.models.list()] == ["tiny"]

    async def realtime(engine):
        asynchronous = openai.AsyncOpenAI(api_key="k1", base_url=f"http://{engine}/v1")
        query = {"intent": "transcription"}
        async with asynchronous.realtime.connect(extra_query=query) as session:
            return (await session.recv()).type

    engine = json.loads(answer_of(cluster.port, "/api/engine")[2])["address"]
    assert asyncio.run(realtime(engine)) == "session.created"


async def stepped(socket, step):
    """A frame is transcribed."""
    await socket.send_bytes(audio(SILENT_FRAME))
    message = await next_message(socket)
    return (message["type"], message["step_idx"]) == ("Step", step)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_engines_come_and_go_with_the_sessions_and_cut_none(cluster):
    async def talk():
        await cluster.until_engines(1)
        async with aiohttp.ClientSession(headers=KEY) as http:

            async def session():
                url = f"ws://127.0.0.1:{cluster.port}/api/asr-streaming"
                socket = await http.ws_connect(url)
                assert (await next_message(socket))["type"] == "Ready"
                assert await stepped(socket, 1)
                return socket._response.url.port, socket

            sessions = [await session() for _ in range(3)]
            await cluster.until_engines(2)
            sessions += [await session() for _ in range(3)]
            by_port = {}
            for port, socket in sessions:
                by_port.setdefault(port, []).append(socket)
            assert len(by_port) == 2
            kept = [sockets.pop() for sockets in by_port.values()]
            for socket in (one for sockets in by_port.values() for one in sockets):
                await socket.close()
            await cluster.until_engines(1)
            # One of them is in an engine that is going away.
            assert [await stepped(one, 2) for one in kept] == [True, True]
            assert len(await asyncio.to_thread(cluster.engines)) == 2
            for socket in kept:
                await socket.close()
            while len(await asyncio.to_thread(cluster.engines)) > 1:
                await asyncio.sleep(0.5)

    asyncio.run(talk())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_that_dies_is_replaced(cluster):
    async def talk():
        await cluster.until_engines(1)
        async with connected(cluster.port, headers=KEY) as socket:
            await next_message(socket)
            os.kill(engine_process(), signal.SIGKILL)
            error = (await until(socket, "Error"))[-1]
            assert "its process has ended" in error["message"]
        await cluster.until_engines(0, 10)
        await cluster.until_engines(1)
        async with connected(cluster.port, headers=KEY) as socket:
            return await next_message(socket)

    assert asyncio.run(talk()) == {"type": "Ready"}


def engine_process():
    """The process with the model, below the replica."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if "spawn_main" not in (path / "cmdline").read_text():
                continue
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if ":engine" in Path(f"/proc/{parent}/cmdline").read_text():
                return int(path.name)
        except FileNotFoundError:
            continue
    raise AssertionError("no engine")
