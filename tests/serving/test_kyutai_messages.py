"""The bytes of the protocol, as captured from clients and servers of it."""

import msgpack
import numpy as np
import pytest

from nightscribe.serving import kyutai_messages as messages
from nightscribe.serving.pcm import int16_of

HALF = (np.linspace(-1, 1, 1920) * 30_000).astype(np.int16)


def samples_of(message, **options):
    return messages.read(msgpack.packb(message, **options)).samples_N


def test_the_servers_messages_to_the_byte():
    assert bytes.fromhex("81a474797065a55265616479") == messages.READY
    step = messages.step(408, [0.5, 0.25, 0.125, 1.0], 22080)
    assert step == (
        b"\x84\xa4type\xa4Step\xa8step_idx\xcd\x01\x98\xa3prs\x94\xca\x3f\x00\x00\x00"
        b"\xca\x3e\x80\x00\x00\xca\x3e\x00\x00\x00\xca\x3f\x80\x00\x00\xacbuffered_pcm\xcdV@"
    )
    assert len(step) == 64
    word = messages.word("hello", 1.56)
    assert word == (
        b"\x83\xa4type\xa4Word\xa4text\xa5hello\xaastart_time\xcb\x3f\xf8\xf5\xc2\x8f\x5c\x28\xf6"
    )
    assert messages.end_word(1.0) == (
        b"\x82\xa4type\xa7EndWord\xa9stop_time\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"
    )
    assert messages.marker(3) == b"\x82\xa4type\xa6Marker\xa2id\x03"
    error = messages.error("no free channels")
    assert (len(error), error[:12]) == (37, b"\x82\xa4type\xa5Error")
    every = messages.READY, word, messages.end_word(1), messages.marker(0)
    assert [len(one) for one in every] == [12, 42, 33, 17]


def test_the_clients_message_to_the_byte():
    packed = messages.audio(HALF)
    floats = [float(x) for x in HALF / np.float32(32768)]
    assert packed == msgpack.packb({"type": "Audio", "pcm": floats}, use_single_float=True)
    assert len(packed) == 9_619
    assert len(messages.audio(np.zeros(24_000, np.int16))) == 120_019
    assert messages.audio(np.zeros(70_000, np.int16))[16:17] == b"\xdd"


@pytest.mark.parametrize("count", [0, 1, 15, 16, 1920, 24_000, 70_000])
@pytest.mark.parametrize("single", [True, False])
def test_floats_of_any_number_and_width(count, single):
    samples_N = np.resize(HALF, count)
    floats = (samples_N / 32768).tolist()
    found_N = samples_of({"type": "Audio", "pcm": floats}, use_single_float=single)
    assert found_N.dtype == np.int16
    np.testing.assert_array_equal(found_N, samples_N)


def test_integers_among_floats_other_orders_more_keys_and_arrays():
    mixed = [0, 1, -1, 0.5, 0, -0.25]
    expected = [0, 32767, -32768, 16384, 0, -8192]
    for message in (
        {"type": "Audio", "pcm": mixed},
        {"pcm": mixed, "type": "Audio"},
        {"type": "Audio", "more": {"a": [1]}, "pcm": mixed},
        ["Audio", mixed],
    ):
        assert samples_of(message).tolist() == expected
    assert messages.read(msgpack.packb(["Marker", 3])) == messages.Marker(3)


def test_bytes_are_int16_samples():
    np.testing.assert_array_equal(samples_of({"type": "Audio", "pcm": HALF.tobytes()}), HALF)


def test_numbers_that_are_not_sound_become_silence_or_full_scale():
    assert int16_of(np.array([np.nan, np.inf, -np.inf, 7.0, -7.0])).tolist() == [
        0, 0, 0, 32767, -32768,
    ]  # fmt: skip


@pytest.mark.parametrize("id", [0, -1, -(2**63), 2**63 - 1])
def test_markers_of_every_id(id):
    assert messages.read(msgpack.packb({"type": "Marker", "id": id})) == messages.Marker(id)
    assert msgpack.unpackb(messages.marker(id)) == {"type": "Marker", "id": id}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xc1", "not MessagePack"),
        (b"", "not MessagePack"),
        (b"\x82\xa4type", "not MessagePack"),
        (b"\x91" * 100_000, "not MessagePack"),
        (msgpack.packb(7), "neither a map"),
        (msgpack.packb([]), "neither a map"),
        (msgpack.packb({"pcm": [0.0]}), "its type"),
        (msgpack.packb({"type": "Speak"}), "its type"),
        (msgpack.packb({"type": ["Audio"]}), "its type"),
        (msgpack.packb({"type": "Audio"}), "needs pcm"),
        (msgpack.packb({"type": "Audio", "pcm": "loud"}), "array of numbers"),
        (msgpack.packb({"type": "Audio", "pcm": [[0.0]]}), "array of numbers"),
        (msgpack.packb({"type": "Audio", "pcm": ["0.5"]}), "array of numbers"),
        (msgpack.packb({"type": "Audio", "pcm": [True]}), "array of numbers"),
        (msgpack.packb({"type": "Audio", "pcm": b"odd"}), "int16"),
        (msgpack.packb({"type": "Marker", "id": 1.5}), "integer"),
        (msgpack.packb({"type": "Marker", "id": 2**63}), "integer"),
        (msgpack.packb({"type": "OggOpus", "data": 10**10}), "array of bytes"),
        (msgpack.packb({"type": "OggOpus", "data": [256]}), "array of bytes"),
    ],
)
def test_anything_else_is_refused_with_a_reason(message, reason):
    with pytest.raises(messages.InvalidMessageError, match=reason):
        messages.read(message)
