"""OpenAI's endpoints, by raw requests."""

import asyncio
import base64
import io
import json
import wave

import aiohttp
import numpy as np
import pytest

from nightscribe.serving.pcm import Resampler, from_alaw, from_mulaw
from nightscribe.serving.realtime_settings import RealtimeSettings
from nightscribe.serving.transcriptions import RequestError
from tests.serving.servers import NUM_SLOTS, connected

TEXT = "play this sorry your music is not right please try again"


def post(port, data=None, headers=None, **fields):
    async def ask():
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value)
        if data is not None:
            form.add_field("file", data, filename="a.opus")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            answer = await http.post("/v1/audio/transcriptions", data=form, headers=headers)
            return answer.status, answer.headers, await answer.text()

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def opus():
    with open("samples/bella.opus", "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    ("format", "kind", "begin"),
    [
        ("json", "application/json", '{"text": "play this'),
        ("text", "text/plain", "play this"),
        ("srt", "text/plain", "1\n00:00:00,080 -->"),
        ("vtt", "text/vtt", "WEBVTT\n"),
    ],
)
def test_every_format(server, opus, format, kind, begin):
    status, headers, text = post(server.port, opus, model="tiny", response_format=format)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
    assert text.startswith(begin)


@pytest.mark.slow
def test_a_long_file_is_cut_into_shards_and_streamed_shard_by_shard(server, bella):
    sound_N = np.concatenate([bella, np.zeros(24_000, np.int16)] * 15)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1), written.setsampwidth(2), written.setframerate(24_000)
        written.writeframes(sound_N.tobytes())
    status, _, text = post(server.port, file.getvalue(), model="tiny", stream="true")
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    deltas = [one["delta"] for one in events if one["type"].endswith("delta")]
    assert (status, len(deltas)) == (200, 2)
    assert "".join(deltas) == events[-1]["text"] == " ".join([TEXT] * 15)


@pytest.mark.parametrize(
    ("data", "fields", "status", "param"),
    [
        (None, {"model": "tiny"}, 400, None),  # no form with files at all
        (b"x", {}, 400, "model"),
        (b"x", {"model": "tiny", "response_format": "pdf"}, 400, "response_format"),
        (b"x", {"model": "tiny"}, 400, "file"),
        (
            b"x",
            {"model": "tiny", "timestamp_granularities[]": "word"},
            400,
            "timestamp_granularities",
        ),
    ],
)
def test_wrong_requests_name_the_field(server, data, fields, status, param):
    found, _, text = post(server.port, data, **fields)
    assert (found, json.loads(text)["error"]["param"]) == (status, param)


def test_limits_and_keys_have_their_status(server, opus):
    with server.also(keys=("k",), max_file_bytes=1024, max_files=1) as strict:
        assert post(strict.port, opus, model="tiny")[0] == 401
        assert post(strict.port, opus, {"Authorization": "Bearer k"}, model="tiny")[0] == 413
        with strict.backend.files.admitted():
            status, headers, _ = post(
                strict.port, b"x", {"Authorization": "Bearer k"}, model="tiny"
            )
    assert (status, "Retry-After" in headers) == (429, True)


async def realtime(port, events, until_kind, count=1):
    async with connected(port, "/v1/realtime?intent=transcription") as socket:
        for event in events:
            await socket.send_str(json.dumps(event))
        found = []
        while sum(one["type"].endswith(until_kind) for one in found) < count:
            found.append(json.loads((await socket.receive(60)).data))
        return found


def update(**given):
    return {"type": "session.update", "session": {"audio": {"input": given}}}


def append(data):
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}


COMMIT = {"type": "input_audio_buffer.commit"}


def test_two_commits_are_two_items_and_cleared_audio_is_none(server, bella, file_words):
    events = [
        update(turn_detection=None),
        append(bella.tobytes()),
        {"type": "input_audio_buffer.clear"},
        append(bella.tobytes()),
        COMMIT,
        append(bella.tobytes()),
        COMMIT,
    ]
    found = asyncio.run(realtime(server.port, events, "completed", count=2))
    first, second = [one for one in found if one["type"].endswith("completed")]
    assert first["transcript"] == second["transcript"] == TEXT
    assert first["item_id"] != second["item_id"]
    committed = [one for one in found if one["type"].endswith("committed")]
    assert committed[1]["previous_item_id"] == first["item_id"]
    gap_s = second["words"][0]["start"] - first["words"][0]["start"]
    assert gap_s == pytest.approx(len(bella) / 24_000, abs=0.002)
    assert first["usage"] == {"type": "duration", "seconds": pytest.approx(4.045)}


def test_sixteen_kilohertz_give_the_same_words(server, bella):
    slower_N = Resampler(24_000, 16_000).resampled(bella, is_last=True)
    settings = update(turn_detection=None, format={"type": "audio/pcm", "rate": 16_000})
    events = [settings, append(slower_N.tobytes()), COMMIT]
    found = asyncio.run(realtime(server.port, events, "completed"))
    assert found[1]["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 16_000}
    assert found[-1]["transcript"] == TEXT


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "sing"}, "no event"),
        ([1], "JSON object"),
        (COMMIT, "less than 100 ms"),
        ({"type": "input_audio_buffer.append", "audio": "%%"}, "base64"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "even number"),
        (update(format={"type": "audio/pcm", "rate": 11_025}), "one of"),
        (update(turn_detection={"type": "psychic"}), "server_vad"),
        (update(turn_detection={"type": "server_vad", "threshold": 2}), "between 0 and 1"),
    ],
)
def test_wrong_events_are_answered_and_the_session_goes_on(server, event, reason):
    events = [event, {"type": "input_audio_buffer.clear"}]
    found = asyncio.run(realtime(server.port, events, "cleared"))
    assert [one["type"] for one in found[:2]] == ["session.created", "error"]
    assert reason in found[1]["error"]["message"]


def test_a_new_session_takes_the_slot_that_is_being_given_back(server):
    async def many():
        for _ in range(4 * NUM_SLOTS):
            async with connected(server.port, "/v1/realtime?intent=transcription") as socket:
                assert json.loads((await socket.receive(60)).data)["type"] == "session.created"

    asyncio.run(many())


def test_eagerness_chooses_the_head():
    def head(eagerness):
        given = {"turn_detection": {"type": "semantic_vad", "eagerness": eagerness}}
        return RealtimeSettings().updated({"audio": {"input": given}}, num_heads=4).turns.head

    assert [head(one) for one in ("high", "medium", "auto", "low")] == [0, 1, 2, 3]
    with pytest.raises(RequestError, match="an object"):
        RealtimeSettings().updated({"audio": [1]}, 4)


def test_telephone_codes_are_those_of_the_standard():
    # G.711: silence, the smallest steps, and full scale of both signs.
    mulaw = np.array([0xFF, 0x7F, 0xFE, 0x00, 0x80], np.uint8)
    assert from_mulaw(mulaw).tolist() == [0, 0, 8, -32124, 32124]
    alaw = np.array([0xD5, 0x55, 0xAA, 0x2A], np.uint8)
    assert from_alaw(alaw).tolist() == [8, -8, 32256, -32256]
