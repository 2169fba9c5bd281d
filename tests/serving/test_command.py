"""`nightscribe serve` and `nightscribe live` as commands, and how a server ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import aiohttp
import numpy as np
import pytest

from nightscribe.serving.kyutai_messages import audio
from tests.serving.servers import FRAME, connected, next_message, until

TEXT = "play this sorry your music is not right please try again"


@pytest.fixture
def started():
    """A server of the command, and its address."""
    words = (
        "serve model=tiny engine.num_slots=2 engine.device=cpu serving.port=0 serving.drain_s=0.5"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "nightscribe", *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    yield process, int(line.split(",")[0].rpartition(":")[2])
    process.kill()
    process.communicate()


def health(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return answer.status, json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["status"]


def test_sigterm_ends_sessions_with_a_reason_and_the_logs_hold_no_words(started):
    process, port = started
    live = [sys.executable, "-m", "nightscribe", "live", "samples/bella.opus", "rtf=1000"]
    shown = subprocess.run([*live, f"url=127.0.0.1:{port}"], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout.strip()) == (0, TEXT)

    async def talk():
        async with connected(port) as socket:
            await next_message(socket)
            await socket.send_bytes(audio(np.zeros(3 * FRAME, np.int16)))
            while (await next_message(socket))["step_idx"] != 3:
                pass
            process.send_signal(signal.SIGTERM)
            error = (await until(socket, "Error"))[-1]
            assert (await socket.receive(5)).type == aiohttp.WSMsgType.CLOSE
            return error["message"], socket.close_code

    assert asyncio.run(talk()) == ("the server is shutting down", 1001)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    ends = [line for line in lines if line["message"] == "session ended"]
    assert [line["reason"] for line in ends] == ["client", "shutdown"]
    assert len({line["session"] for line in ends}) == 2
    assert "music" not in log


def test_an_engine_that_dies_ends_its_sessions_and_turns_health_red(started):
    _, port = started
    assert health(port) == (200, "ok")

    async def talk():
        async with connected(port) as socket:
            await next_message(socket)
            os.kill(engine_of(started[0].pid), signal.SIGKILL)
            error = (await until(socket, "Error"))[-1]
            assert (await socket.receive(5)).type == aiohttp.WSMsgType.CLOSE
            return error["message"], socket.close_code

    text, code = asyncio.run(talk())
    assert "its process has ended" in text
    assert code == 1011
    assert health(port) == (503, "its process has ended")


def engine_of(pid):
    """The child that was spawned with the engine."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
    for child in children:
        with open(f"/proc/{child}/cmdline") as file:
            if "spawn_main" in file.read():
                return int(child)
    raise AssertionError(children)
