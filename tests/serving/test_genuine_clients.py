"""Clients that others wrote, unchanged: OpenAI's SDK, and LiveKit's plugin for Kyutai's servers."""

import asyncio
import base64
from typing import Any

import numpy as np
import pytest

from tests.serving.servers import FRAME

TEXT = "play this sorry your music is not right please try again"


@pytest.fixture
def openai_client(server):
    import openai

    return openai.OpenAI(api_key="any", base_url=f"http://127.0.0.1:{server.port}/v1")


def test_the_openai_sdk_transcribes_a_file(openai_client, file_words):
    with open("samples/bella.opus", "rb") as file:
        found = openai_client.audio.transcriptions.create(
            file=file,
            model="tiny",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    assert found.text == TEXT
    assert [one.word for one in found.words] == TEXT.split()
    assert [one.start for one in found.words] == [pytest.approx(w.start_s) for w in file_words]
    assert found.segments[0].text == f" {TEXT}"
    assert found.duration == pytest.approx(4.045)


def test_the_openai_sdk_streams_a_file(openai_client):
    with open("samples/bella.opus", "rb") as file:
        events = list(
            openai_client.audio.transcriptions.create(file=file, model="tiny", stream=True)
        )
    assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == TEXT
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", TEXT)


def test_the_openai_sdk_reads_our_errors(openai_client):
    import openai

    with pytest.raises(openai.BadRequestError, match="cannot be decoded"):
        openai_client.audio.transcriptions.create(file=("a.wav", b"not a sound"), model="tiny")
    assert [one.id for one in openai_client.models.list()] == ["tiny"]


@pytest.mark.parametrize("turns", [False, True])
def test_the_openai_sdk_holds_a_realtime_session(server, bella, file_words, turns):
    import openai

    async def talk():
        client = openai.AsyncOpenAI(api_key="any", base_url=f"http://127.0.0.1:{server.port}/v1")
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as session:
            given: Any = {"format": {"type": "audio/pcm", "rate": 24_000}}
            given["turn_detection"] = {"type": "server_vad"} if turns else None
            asked: Any = {"type": "transcription", "audio": {"input": given}}
            await session.session.update(session=asked)
            sound_N = np.concatenate([bella, np.zeros((4 * 24_000) * turns, np.int16)])
            for first in range(0, len(sound_N), 5 * FRAME):
                audio = base64.b64encode(sound_N[first : first + 5 * FRAME].tobytes()).decode()
                await session.input_audio_buffer.append(audio=audio)
            if not turns:
                await session.input_audio_buffer.commit()
            events = []
            async for event in session:
                events.append(event)
                if event.type.endswith("transcription.completed"):
                    return events

    events = asyncio.run(asyncio.wait_for(talk(), 100))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["session.created", "session.updated"]
    assert events[-1].transcript == TEXT
    deltas = [event.delta for event in events if event.type.endswith("transcription.delta")]
    assert "".join(deltas) == TEXT
    assert events[-1].usage.type == "duration"
    words = events[-1].words
    assert [one["start"] for one in words] == [pytest.approx(w.start_s) for w in file_words]
    assert ("input_audio_buffer.speech_started" in kinds) == turns
    assert ("input_audio_buffer.speech_stopped" in kinds) == turns
    assert kinds.count("input_audio_buffer.committed") == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_livekits_plugin_gets_the_words(server, bella):
    kyutai = pytest.importorskip("lasuite.plugins.kyutai")
    from livekit import rtc

    async def talk():
        import aiohttp

        url = f"ws://127.0.0.1:{server.port}/api/asr-streaming"
        async with aiohttp.ClientSession() as http:
            stream = kyutai.STT(api_key="public_token", http_session=http, base_url=url).stream()
            sound_N, size = np.concatenate([bella, np.zeros(20 * FRAME, np.int16)]), 480
            for first in range(0, len(sound_N), size):
                piece_N = sound_N[first : first + size]
                stream.push_frame(rtc.AudioFrame(piece_N.tobytes(), 24_000, 1, len(piece_N)))
            texts = []
            async for event in stream:
                if event.alternatives:
                    texts.append(event.alternatives[0].text)
                if " ".join(texts) == TEXT:
                    await stream.aclose()
                    return True

    assert asyncio.run(asyncio.wait_for(talk(), 100))
