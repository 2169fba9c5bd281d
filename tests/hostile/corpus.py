"""A corpus of recordings that mean harm or are badly hurt, made by script and by seed.

`write_corpus(folder, num_files)` cycles through the makers below; each file's name begins with the
maker's name. `HONEST` files decode; all others must become a failure or a partial recording.
"""

import random
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
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
SECRET_PATH = "/etc/passwd"
ODD_NAMES = [
    "new\nline.wav",
    'quote".wav',
    "apostrophe'.wav",
    "..wav",
    "-option.wav",
    "percent%00.wav",
    "semi;colon $(true) `true`.wav",
    "unicode-\u202etxt.wav",
    "long-" + "n" * 200 + ".wav",
]

Maker = Callable[[Path, random.Random], Path]


def write_corpus(folder: Path, num_files: int, seed: int = 0) -> Iterator[Path]:
    """Write files until there are `num_files`, yielding each path."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, maker in zip(range(num_files), cycle(MAKERS), strict=False):
        place = folder / f"{index // 1000:03d}" / f"{index:06d}"
        place.mkdir(parents=True)
        yield maker(place, random.Random(f"{seed}/{index}"))


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


def make_html(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    return _write(place / f"html.{suffix}", b"<html><body>404 not found</body></html>")


def make_hls_playlist(place: Path, draw: random.Random) -> Path:
    target = draw.choice([f"file://{SECRET_PATH}", SECRET_PATH, "http://127.0.0.1:9/x.ts"])
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
    return _write(place / f"hls_playlist.{draw.choice(['m3u8', 'mp3', 'wav'])}", text.encode())


def make_concat_script(place: Path, draw: random.Random) -> Path:
    text = f"ffconcat version 1.0\nfile '{SECRET_PATH}'\n"
    return _write(place / f"concat_script.{draw.choice(['ffconcat', 'wav', 'ogg'])}", text.encode())


def make_dash_manifest(place: Path, draw: random.Random) -> Path:
    text = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        "<Period><AdaptationSet><Representation id='0'>"
        f"<BaseURL>file://{SECRET_PATH}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    return _write(place / f"dash_manifest.{draw.choice(['mpd', 'm4a'])}", text.encode())


def make_session_description(place: Path, draw: random.Random) -> Path:
    text = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    return _write(place / f"session_description.{draw.choice(['sdp', 'wav'])}", text.encode())


def make_promises_years(place: Path, draw: random.Random) -> Path:
    content = wav(b"\0\0" * 1000, rate=1, byte_rate=2, data_size=2**32 - 64)
    return _write(place / "promises_years.wav", content)


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
    path.symlink_to(SECRET_PATH)
    return path


def make_link_to_nothing(place: Path, draw: random.Random) -> Path:
    path = place / "link_to_nothing.wav"
    path.symlink_to(place / "nowhere.wav")
    return path


def make_odd_name(place: Path, draw: random.Random) -> Path:
    return _write(place / f"odd_name {draw.choice(ODD_NAMES)}", healthy("wav"))


def make_honest(place: Path, draw: random.Random) -> Path:
    suffix = draw.choice(list(CODECS))
    return _write(place / f"honest.{suffix}", healthy(suffix))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


MAKERS: list[Maker] = [
    value for name, value in sorted(globals().items()) if name.startswith("make_")
]
HONEST = ("honest", "odd_name")
