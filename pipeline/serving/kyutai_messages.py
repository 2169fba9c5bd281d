"""The messages of moshi-server, to the byte: MessagePack maps, `type` first."""

# N samples, H VAD heads

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from nightscribe.errors import NightscribeError
from nightscribe.serving.pcm import FULL_SCALE, int16_of

# How most clients send audio: keys in this order, and an array of float32 only.
_AUDIO_HEAD = b"\x82\xa4type\xa5Audio\xa3pcm"
_FLOAT32 = 0xCA
_FLOAT32_BYTES = 5
_FIELDS = {"Audio": "pcm", "OggOpus": "data", "Marker": "id", "Init": "", "Ping": ""}
MARKER_IDS = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    samples_N: np.ndarray  # int16


@dataclass(frozen=True, slots=True)
class OggOpus:
    data: bytes


@dataclass(frozen=True, slots=True)
class Marker:
    id: int


@dataclass(frozen=True, slots=True)
class Init:
    pass


@dataclass(frozen=True, slots=True)
class Ping:
    pass


ClientMessage = Audio | OggOpus | Marker | Init | Ping


class InvalidMessageError(NightscribeError, ValueError):
    """A message that is not one of these."""


def read(data: bytes) -> ClientMessage:
    """A client's message, as a map or as an array."""
    samples_N = _float32_audio(data)
    if samples_N is not None:
        return Audio(int16_of(samples_N))
    try:
        content = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise InvalidMessageError(f"it is not MessagePack: {error}") from None
    kind, value = _kind_and_value(content)
    if kind == "Audio":
        return Audio(_samples(value))
    if kind == "OggOpus":
        return OggOpus(_bytes(value))
    if kind == "Marker":
        if isinstance(value, bool) or not isinstance(value, int) or value not in MARKER_IDS:
            raise InvalidMessageError("the id of a Marker must be an integer of 64 bits")
        return Marker(value)
    return Init() if kind == "Init" else Ping()


def _float32_audio(data: bytes) -> np.ndarray | None:
    """The samples of the usual message, without an object for each; None for any other."""
    if not data.startswith(_AUDIO_HEAD):
        return None
    first = len(_AUDIO_HEAD)
    kind = data[first : first + 1]
    if kind == b"\xdc":
        first, count = first + 3, int.from_bytes(data[first + 1 : first + 3])
    elif kind == b"\xdd":
        first, count = first + 5, int.from_bytes(data[first + 1 : first + 5])
    else:
        return None
    if len(data) - first != count * _FLOAT32_BYTES:
        return None
    elements = np.frombuffer(data, np.dtype([("kind", "u1"), ("value", ">f4")]), offset=first)
    return elements["value"] if (elements["kind"] == _FLOAT32).all() else None


def _kind_and_value(content: Any) -> tuple[str, Any]:
    if isinstance(content, list) and content:
        kind, value = content[0], content[1] if len(content) > 1 else None
    elif isinstance(content, dict):
        kind = content.get("type")
        value = content.get(_FIELDS.get(kind, "")) if isinstance(kind, str) else None
    else:
        raise InvalidMessageError("it is neither a map nor an array")
    if not isinstance(kind, str) or kind not in _FIELDS:
        known = ", ".join(_FIELDS)
        raise InvalidMessageError(f"its type is not one of {known}")
    if _FIELDS[kind] and value is None:
        raise InvalidMessageError(f"a message {kind} needs {_FIELDS[kind]}")
    return kind, value


def _samples(value: Any) -> np.ndarray:
    """Numbers of any kind; or, which moshi-server does not take, bytes of int16."""
    if isinstance(value, bytes):
        if len(value) % 2:
            raise InvalidMessageError("pcm as bytes must be int16 samples")
        return np.frombuffer(value, "<i2")
    if not isinstance(value, list):
        raise InvalidMessageError("pcm must be an array of numbers")
    try:
        samples_N = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        samples_N = None
    if samples_N is None or samples_N.ndim != 1 or any(type(x) not in (int, float) for x in value):
        raise InvalidMessageError("pcm must be an array of numbers")
    return int16_of(samples_N)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return bytes([*value])  # a number alone would ask for as many bytes
    except (TypeError, ValueError):
        raise InvalidMessageError("data must be an array of bytes") from None


READY = msgpack.packb({"type": "Ready"})


def step(step_idx: int, prs: Sequence[float], buffered_pcm: int) -> bytes:
    """A frame was consumed: `prs` are the VAD heads, nearest horizon first."""
    packed = b"".join(struct.pack(">Bf", _FLOAT32, pr) for pr in prs)
    return b"".join(
        [
            b"\x84\xa4type\xa4Step\xa8step_idx",
            msgpack.packb(step_idx),
            b"\xa3prs",
            msgpack.Packer().pack_array_header(len(prs)),
            packed,
            b"\xacbuffered_pcm",
            msgpack.packb(buffered_pcm),
        ]
    )


def word(text: str, start_time: float, **extra: float) -> bytes:
    return msgpack.packb({"type": "Word", "text": text, "start_time": float(start_time), **extra})


def end_word(stop_time: float) -> bytes:
    return msgpack.packb({"type": "EndWord", "stop_time": float(stop_time)})


def marker(id: int) -> bytes:
    return msgpack.packb({"type": "Marker", "id": id})


def error(message: str) -> bytes:
    return msgpack.packb({"type": "Error", "message": message})


def audio(samples_N: np.ndarray) -> bytes:
    """A client's message: int16 samples as float32."""
    elements = np.empty(len(samples_N), np.dtype([("kind", "u1"), ("value", ">f4")]))
    elements["kind"], elements["value"] = _FLOAT32, samples_N / FULL_SCALE
    return b"".join([_AUDIO_HEAD, _array_header(len(samples_N)), elements.tobytes()])


def _array_header(count: int) -> bytes:
    return msgpack.Packer(autoreset=True).pack_array_header(count)
