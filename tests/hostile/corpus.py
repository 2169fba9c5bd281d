"""A corpus of recordings that mean harm or are badly hurt, made by script and by seed.

`write_corpus(folder, num_files)` cycles through the makers below; each file's name begins with the
maker's name. Beside the folder lies a healthy recording that none of the files may lead to.
"""

import os
import random
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import imageio_ffmpeg

# What ffmpeg writes the healthy originals with: suffix -> output options.
CODECS = {
    "wav": ["-c:a", "pcm_s16le"],
    "flac": ["-c:a", "flac"],
    "mp3": ["-c:a", "libmp3lame", "-b:a", "64k"],
    "m4a": ["-c:a", "aac"],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "webm": ["-c:a", "libopus", "-f", "webm"],
    "wma": ["-c:a", "wmav2"],
    "mkv": ["-c:a", "aac", "-f", "matroska"],
    "au": ["-c:a", "pcm_mulaw"],
    "aiff": ["-c:a", "pcm_s16be"],
    "amr": ["-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1"],
}
SECRET_NAME = "secret.wav"
# Sound beside the file, which ffmpeg itself would follow a script to.
NEIGHBOUR = "neighbour.bin"
NOWHERE = "http://127.0.0.1:9/x.wav"
ODD_NAMES = [
    "new\nline.wav",
    'quote".wav',
    "apostrophe'.wav",
    "..wav",
    "percent%00.wav",
    "semi;colon $(true) `true`.wav",
    "unicode-\u202etxt.wav",
    "not-utf8-\udcff\udcfe.wav",
    "escape-\x1b[2J.wav",
    "long-" + "n" * 200 + ".wav",
]
# Texts that lead elsewhere, for the readers of ffmpeg that follow them; {0} is where.
LISTS = {
    "list_hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{0}\n#EXT-X-ENDLIST\n",
    "list_hls_key": (
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:9,\na.ts\n#EXT-X-ENDLIST\n'
    ),
    "list_concat": "ffconcat version 1.0\nfile '{0}'\n",
    "list_concat_near": f"ffconcat version 1.0\nfile '{NEIGHBOUR}'\n",
    "list_dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        "<AdaptationSet><Representation id='0'><BaseURL>{0}</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>"
    ),
    "list_session": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    ),
    "list_cue": 'FILE "{0}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "list_pls": "[playlist]\nFile1={0}\nNumberOfEntries=1\n",
    "list_asx": '<asx version="3.0"><entry><ref href="{0}"/></entry></asx>',
    "list_smooth": '<SmoothStreamingMedia><StreamIndex Url="{0}"/></SmoothStreamingMedia>',
    "list_drawing": (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        '<image xlink:href="{0}"/></svg>'
    ),
    "list_subtitles": "1\n00:00:00,000 --> 00:00:10,000\n<a href='{0}'>text</a>\n",
    "list_webvtt": "WEBVTT\n\n00:00.000 --> 00:10.000\n{0}\n",
    "list_metadata": ";FFMETADATA1\ntitle={0}\n[STREAM]\n",
    "list_composition": (
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/'
        '2016"><Id>{0}</Id></CompositionPlaylist>'
    ),
}
LIST_SUFFIXES = ["wav", "mp3", "ogg", "m4a", "mkv"]

Maker = Callable[[Path, random.Random], Path]


def write_corpus(folder: Path, num_files: int, seed: int = 0) -> Iterator[Path]:
    """Write files until there are `num_files`, yielding each path."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder.with_name(SECRET_NAME), healthy("wav"))
    for index, maker in zip(range(num_files), cycle(MAKERS.values()), strict=False):
        place = folder / f"{index // 1000:03d}" / f"{index:06d}"
        place.mkdir(parents=True)
        yield maker(place, random.Random(f"{seed}/{index}"))


def kind_of(name: str) -> str:
    """The maker of a file, by its path."""
    base = os.path.basename(name)
    return max((kind for kind in MAKERS if base.startswith(kind)), key=len)


@cache
def healthy(suffix: str) -> bytes:
    """Two seconds of a wavering tone in the codec of `suffix`."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-v", "error", "-nostdin", "-f", "lavfi", "-i"),
        "sine=frequency=300:beep_factor=4:duration=2:sample_rate=16000",
        *CODECS[suffix],
    ]
    if suffix in ("m4a", "aiff"):  # these need a seekable output
        return _through_a_file(command, suffix)
    container = {"wma": "asf", "opus": "opus", "mkv": "matroska"}.get(suffix, suffix)
    return subprocess.run(
        [*command, "-f", container, "pipe:1"], check=True, capture_output=True
    ).stdout


def _through_a_file(command: list[str], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tone.{suffix}"
        subprocess.run([*command, path], check=True, capture_output=True)
        return path.read_bytes()


def wav(samples: bytes, **changed: int) -> bytes:
    """A RIFF file whose header says what it is told to say."""
    header = {
        "format": 1,
        "channels": 1,
        "rate": 16000,
        "byte_rate": 32000,
        "block": 2,
        "bits": 16,
        "data_size": len(samples),
    } | changed
    *fields, data_size = header.values()
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *fields)
    body += b"data" + struct.pack("<I", data_size) + samples
    return b"RIFF" + struct.pack("<I", min(len(body) + data_size, 2**32 - 1)) + body


def make_truncated(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    content = healthy(suffix)
    return _write(place / f"truncated.{suffix}", content[: draw.randrange(1, len(content) // 2)])


def make_bit_flipped(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    content = bytearray(healthy(suffix))
    for _ in range(draw.randrange(1, 200)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return _write(place / f"bit_flipped.{suffix}", bytes(content))


def make_random_bytes(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    return _write(place / f"random_bytes.{suffix}", draw.randbytes(draw.randrange(1, 65536)))


def make_empty(place: Path, draw: random.Random) -> Path:
    return _write(place / f"empty.{draw.choice(list(CODECS))}", b"")


def make_web_page(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    return _write(place / f"web_page.{suffix}", b"<html><body>404 not found</body></html>")


def _make_list(kind: str, place: Path, draw: random.Random) -> Path:
    """A playlist, manifest or script that leads to the secret or to a host."""
    secret = _secret(place)
    target = draw.choice([str(secret), f"file:{secret}", f"file://{secret}", NOWHERE])
    _write(place / NEIGHBOUR, healthy("wav"))
    text = LISTS[kind].format(target)
    return _write(place / f"{kind}.{draw.choice(LIST_SUFFIXES)}", text.encode())


def make_reference(place: Path, draw: random.Random) -> Path:
    """An m4a whose track says that its samples lie in another file."""
    content = _with_data_reference(healthy("m4a"), str(_secret(place)).encode())
    return _write(place / f"reference.{draw.choice(['m4a', 'mov', 'mp4'])}", content)


def _with_data_reference(content: bytes, target: bytes) -> bytes:
    """The file's own `url ` entry made one that names the target; the boxes around it grow."""
    entry = content.index(b"url \0\0\0\1") - 4
    named = struct.pack(">I", 12 + len(target) + 1) + b"url \0\0\0\0" + target + b"\0"
    grown = bytearray(content[:entry] + named + content[entry + 12 :])
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = content.rindex(box, 0, entry) - 4
        (size,) = struct.unpack_from(">I", grown, place)
        struct.pack_into(">I", grown, place, size + len(named) - 12)
    return bytes(grown)


def make_linked_picture(place: Path, draw: random.Random) -> Path:
    """An mp3 or ogg whose cover picture is an address."""
    address = draw.choice([f"file://{_secret(place)}", NOWHERE]).encode()
    picture = b"\0-->\0\3\0" + address
    frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    header = b"ID3\3\0\0" + bytes([0, 0, len(frame) >> 7, len(frame) & 127])
    return _write(place / "linked_picture.mp3", header + frame + healthy("mp3"))


def make_promises_years(place: Path, draw: random.Random) -> Path:
    if draw.random() < 0.5:
        content = wav(b"\0\0" * 1000, rate=1, byte_rate=2, data_size=2**32 - 64)
        return _write(place / "promises_years.wav", content)
    flac = bytearray(healthy("flac"))
    flac[21] |= 0x0F
    flac[22:26] = b"\xff" * 4  # as many samples as the field can say
    return _write(place / "promises_years.flac", bytes(flac))


def make_one_hertz(place: Path, draw: random.Random) -> Path:
    return _write(place / "one_hertz.wav", wav(draw.randbytes(200), rate=1, byte_rate=2))


def make_many_channels(place: Path, draw: random.Random) -> Path:
    content = wav(draw.randbytes(100_000), channels=500, block=1000, byte_rate=16_000_000)
    return _write(place / "many_channels.wav", content)


def make_no_channels(place: Path, draw: random.Random) -> Path:
    return _write(place / "no_channels.wav", wav(draw.randbytes(1000), channels=0, block=0))


def make_not_a_number(place: Path, draw: random.Random) -> Path:
    values = [draw.choice([float("nan"), float("inf"), -float("inf"), 1e38]) for _ in range(16000)]
    content = wav(struct.pack("<16000f", *values), format=3, block=4, bits=32, byte_rate=64000)
    return _write(place / "not_a_number.wav", content)


def make_endless_chunks(place: Path, draw: random.Random) -> Path:
    """A RIFF file of nothing but empty chunks."""
    chunks = b"junk\0\0\0\0" * draw.randrange(1000, 100_000)
    riff = b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE"
    return _write(place / "endless_chunks.wav", riff + chunks)


def make_talkative(place: Path, draw: random.Random) -> Path:
    """A healthy ogg whose comment is a novel that moves the reader's cursor."""
    text = b"TXXX", b"\3title\0" + b"\x1b[2J\r" * draw.randrange(10_000, 100_000)
    frame = text[0] + struct.pack(">IH", len(text[1]), 0) + text[1]
    size = bytes([len(frame) >> 21 & 127, len(frame) >> 14 & 127, len(frame) >> 7 & 127])
    header = b"ID3\3\0\0" + size + bytes([len(frame) & 127])
    return _write(place / "talkative.mp3", header + frame + healthy("mp3"))


def make_video_without_audio(place: Path, draw: random.Random) -> Path:
    return _write(place / "video_without_audio.mkv", _silent_video())


@cache
def _silent_video() -> bytes:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-v", "error", "-nostdin", "-f", "lavfi", "-i", "color=size=32x32:rate=5:duration=1"),
        *("-c:v", "mpeg4", "-f", "matroska", "pipe:1"),
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make_protected(place: Path, draw: random.Random) -> Path:
    """An m4a whose sample entry says it is encrypted."""
    return _write(place / "protected.m4a", healthy("m4a").replace(b"mp4a", b"enca"))


def make_link_out(place: Path, draw: random.Random) -> Path:
    path = place / "link_out.wav"
    secret = _secret(place)
    around = os.path.relpath(secret, place)
    path.symlink_to(draw.choice([str(secret), around, "/dev/zero", "/proc/self/environ"]))
    return path


def make_link_to_nothing(place: Path, draw: random.Random) -> Path:
    path = place / "link_to_nothing.wav"
    path.symlink_to(place / draw.choice(["nowhere.wav", "link_to_nothing.wav"]))
    return path


def make_odd_name(place: Path, draw: random.Random) -> Path:
    return _write(place / f"odd_name {draw.choice(ODD_NAMES)}", _own_tone(draw))


def make_honest(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    return _write(place / f"honest.{suffix}", healthy(suffix))


def _own_tone(draw: random.Random) -> bytes:
    """Sound that no other file holds."""
    return wav(draw.randbytes(16_000))


def _secret(place: Path) -> Path:
    return place.parent.parent.with_name(SECRET_NAME)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


MAKERS: dict[str, Maker] = {
    **{name.removeprefix("make_"): globals()[name] for name in dir() if name.startswith("make_")},
    **{kind: partial(_make_list, kind) for kind in LISTS},
}
HONEST = ("honest", "odd_name", "linked_picture", "talkative")
