"""A server that speaks: moshi-server's socket and OpenAI's endpoint, over a small random model."""

import asyncio
import io
import json
import re
import threading
import wave

import aiohttp
import msgpack
import numpy as np
import pytest
from openai import BadRequestError, OpenAI

from nightscribe.audio.decode import DecodeConfig
from nightscribe.jobs.file import read_audio
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.front import Server
from nightscribe.serving.speaking import SpeechSettings, load_speech
from nightscribe.serving.speech_routes import speech_application
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.requests import Speech, SpeechRequest
from tests.model.tts import peer
from tests.serving.servers import connected
from tests.speech.checkpoints import write_voiced_checkpoint
from tests.speech.test_synthesizer import load

TEXT = "the night is long and"
RATE_HZ = 24_000
NUM_SLOTS = 2


class SpeakingServer:
    """Its loop runs in a thread."""

    def __init__(self, folder, **serving):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        settings = SpeechSettings(
            tts=SpeechModelConfig(checkpoint=str(folder), voices=str(folder)),
            speech=SpeechConfig(device="cpu", dtype="float32", num_slots=NUM_SLOTS),
            voice="ann",
        )
        self.backend = load_speech(settings, ServingConfig(port=0, **serving), DecodeConfig())
        app = speech_application(self.backend, [])
        self.server = self.run(Server.serving(self.backend, app))
        self.url = self.server.url
        self.port = self.server.port

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self):
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_voiced_checkpoint(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def server(folder):
    running = SpeakingServer(folder)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def whole(folder) -> Speech:
    """What the other commands speak."""
    request = SpeechRequest(request_id="whole", turns=(TEXT,), voices=("ann",))
    (speech,) = load(folder, 1, 0.6).speak([request])
    assert isinstance(speech, Speech)
    return speech


async def spoken(server, send, query="format=PcmMessagePack"):
    """Every message until the server closes, and its close code."""
    async with connected(server.port, f"/api/tts_streaming?{query}") as socket:
        await send(socket)
        messages = []
        async for message in socket:
            assert message.type == aiohttp.WSMsgType.BINARY
            messages.append(message.data)
        return messages, socket.close_code


def unpacked(messages):
    return [msgpack.unpackb(one) for one in messages]


def samples_of(messages):
    return np.concatenate([one["pcm"] for one in messages if one["type"] == "Audio"])


async def word_by_word(socket):
    for word in TEXT.split():
        await socket.send_bytes(msgpack.packb({"type": "Text", "text": word}))
    await socket.send_bytes(msgpack.packb({"type": "Eos"}))


async def as_text(socket):
    await socket.send_str(TEXT)
    await socket.send_bytes(b"\x00")


def test_a_socket_gets_the_sound_of_the_other_commands_and_its_words(server, whole):
    messages, code = asyncio.run(spoken(server, word_by_word))
    found = unpacked(messages)
    assert (code, found[0]) == (1000, {"type": "Ready"})
    assert all(len(one["pcm"]) == 1920 for one in found if one["type"] == "Audio")
    np.testing.assert_allclose(samples_of(found), whole.samples_N, atol=1e-5)
    words = [one for one in found if one["type"] == "Text"]
    assert [one["text"] for one in words] == TEXT.split()
    times = [(one["start_s"], one["stop_s"]) for one in words]
    expected = [(word.start_s + 0.08, word.end_s + 0.08) for word in whole.words]
    np.testing.assert_allclose(times, expected)


def test_bare_samples_come_without_messages(server, whole):
    pieces, code = asyncio.run(spoken(server, as_text, "format=Pcm&voice=ann"))
    assert code == 1000
    np.testing.assert_allclose(np.frombuffer(b"".join(pieces), "<f4"), whole.samples_N, atol=1e-5)


def test_without_a_format_the_sound_is_ogg_opus(server, whole, tmp_path):
    pieces, _ = asyncio.run(spoken(server, as_text, ""))
    assert pieces[0].startswith(b"OggS")
    (tmp_path / "a.opus").write_bytes(b"".join(pieces))
    assert abs(len(read_audio(tmp_path / "a.opus")) / RATE_HZ - whole.duration_s) < 0.1


def test_a_voice_that_the_client_sends_is_used(server, folder):
    vectors_WT = peer.random_voice(2)

    async def send(socket):
        voice = {"embeddings": vectors_WT.flatten().tolist(), "shape": [1, *vectors_WT.shape]}
        await socket.send_bytes(msgpack.packb({"type": "Voice"} | voice))
        await word_by_word(socket)

    own, _ = asyncio.run(spoken(server, send))
    named, _ = asyncio.run(spoken(server, word_by_word, "format=PcmMessagePack&voice=bob"))
    np.testing.assert_allclose(samples_of(unpacked(own)), samples_of(unpacked(named)), atol=1e-5)


@pytest.mark.parametrize(
    ("query", "first", "sentence"),
    [
        ("&voice=nobody", [], "there is no voice 'nobody'"),
        ("", [b"\xc1"], "not understood"),
        ("", [msgpack.packb({"type": "Voice", "embeddings": [1.0], "shape": [1]})], "the voice"),
        ("", ['a b c d <break time="1,5s"/>', b"\x00"], "1,5s"),
        ("", ["a\x07b c d", b"\x00"], "control character"),
    ],
)
def test_what_is_wrong_is_one_message_and_the_end(server, query, first, sentence):
    async def send(socket):
        for message in first:
            await (socket.send_str if isinstance(message, str) else socket.send_bytes)(message)

    messages, code = asyncio.run(spoken(server, send, f"format=PcmMessagePack{query}"))
    last = unpacked(messages)[-1]
    assert last["type"] == "Error"
    assert sentence in last["message"]
    assert code == 1003


def test_an_end_before_any_text_closes_without_a_word(server):
    async def send(socket):
        await socket.send_bytes(b"\x00")

    messages, code = asyncio.run(spoken(server, send))
    assert (unpacked(messages), code) == ([{"type": "Ready"}], 1000)


def test_a_client_that_leaves_frees_its_slot(server):
    async def leave():
        for _ in range(3 * NUM_SLOTS):
            async with connected(server.port, "/api/tts_streaming?format=Pcm") as socket:
                await socket.send_str("one two three")
        while server.backend.num_open:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(leave(), 30))


def test_more_clients_than_slots_are_told(server):
    async def fill():
        path = "/api/tts_streaming?format=PcmMessagePack"
        async with connected(server.port, path) as one, connected(server.port, path) as two:
            await asyncio.gather(one.receive(), two.receive())
            messages, _ = await spoken(server, as_text)
            return unpacked(messages)

    assert asyncio.run(fill()) == [{"type": "Error", "message": "no free channels"}]


@pytest.fixture
def client(server):
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_streams_the_sound_of_the_other_commands(client, whole):
    with client.audio.speech.with_streaming_response.create(
        model="tts", voice="ann", input=TEXT, response_format="pcm"
    ) as answer:
        pieces = list(answer.iter_bytes(1920))
    samples_N = np.frombuffer(b"".join(pieces), "<i2")
    assert np.abs(samples_N - np.rint(whole.samples_N * 32767)).max() <= 1


@pytest.mark.parametrize(
    "format",
    ["mp3", *(pytest.param(one, marks=pytest.mark.slow) for one in ("opus", "aac", "flac", "wav"))],
)
def test_openais_client_gets_every_format(client, whole, tmp_path, format):
    answer = client.audio.speech.create(
        model="tts", voice="alloy", input=TEXT, response_format=format
    )
    path = tmp_path / f"a.{format}"
    answer.write_to_file(path)
    assert abs(len(read_audio(path)) / RATE_HZ - whole.duration_s) < 0.2


@pytest.mark.parametrize(
    ("wrong", "param", "sentence"),
    [
        ({"voice": "nobody"}, "voice", "there is no voice 'nobody'"),
        ({"input": "  "}, "input", "input must be given"),
        ({"input": 'a <break time="1,5s"/>'}, "input", "1,5s"),
        ({"input": "a " * 60_000}, "input", "split it"),
        ({"response_format": "midi"}, "response_format", "must be one of mp3"),
        ({"speed": 2}, "speed", "speed must be 1"),
    ],
)
def test_openais_client_hears_what_is_wrong(client, wrong, param, sentence):
    asked = {"model": "tts", "voice": "ann", "input": TEXT} | wrong
    with pytest.raises(BadRequestError) as raised:
        client.audio.speech.create(**asked)
    assert raised.value.param == param
    assert sentence in raised.value.message


def test_a_posted_text_is_streamed_as_wav(server, whole):
    async def post(content):
        async with aiohttp.ClientSession(server.url) as http:
            answer = await http.post("/api/tts_streaming", data=content)
            return answer.status, await answer.read()

    status, data = asyncio.run(post(json.dumps({"text": TEXT, "voice": "ann"})))
    assert status == 200
    assert data[:4] == b"RIFF"
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE_HZ, 1)
    assert abs((len(data) - 44) / 2 - len(whole.samples_N)) < 100
    assert asyncio.run(post("{}"))[0] == 400


def test_the_time_to_the_first_sound_is_a_metric(server, client):
    async def metrics():
        async with aiohttp.ClientSession(server.url) as http:
            return await (await http.get("/metrics")).text()

    def count():
        return int(re.search(r"tts_first_sound_count (\d+)", asyncio.run(metrics()))[1])

    before = count()
    client.audio.speech.create(model="tts", voice="ann", input="one", response_format="pcm")
    assert count() == before + 1


def test_keys_are_asked_for(folder, server):
    running = SpeakingServer(folder, keys=("secret",))
    try:
        with (
            OpenAI(base_url=f"{running.url}/v1", api_key="wrong", max_retries=0) as client,
            pytest.raises(Exception, match="API key"),
        ):
            client.audio.speech.create(model="tts", voice="ann", input=TEXT)
    finally:
        running.stop()
