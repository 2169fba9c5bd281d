"""Every format to samples, and every kind of damage to a status with its reason."""

import os
import shutil
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.ffmpeg import find_ffmpeg
from nightscribe.audio.waveform import mix, select_channel
from nightscribe.storage.locations import S3Config
from nightscribe.storage.sources import recordings

RATE_HZ = 24000
TONE_HZ = 440
SECONDS = 3.0
FFMPEG = find_ffmpeg()


def made(path: Path, *options: str, sources: tuple[str, ...] = ()) -> Path:
    """A file that ffmpeg itself writes; without other sources, three seconds of a tone."""
    sources = sources or (f"sine=frequency={TONE_HZ}:duration={SECONDS}:sample_rate=44100",)
    inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    command = [FFMPEG, "-y", "-loglevel", "error", *inputs, *options, str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def decoded(path, config=None):
    """Samples NC and the outcome."""
    with AudioDecoder(path, config or DecodeConfig(), RATE_HZ) as sound:
        blocks = list(sound)
        outcome = sound.outcome
    return (np.concatenate(blocks) if blocks else np.zeros((0, 1), np.int16)), outcome


def loudest_hz(samples_N):
    spectrum = np.abs(np.fft.rfft(samples_N * np.hanning(len(samples_N))))
    return spectrum.argmax() * RATE_HZ / len(samples_N)


FORMATS = {
    "s16.wav": ("-c:a", "pcm_s16le"),
    "u8.wav": ("-c:a", "pcm_u8"),
    "s24.wav": ("-c:a", "pcm_s24le"),
    "s32.wav": ("-c:a", "pcm_s32le"),
    "f32.wav": ("-c:a", "pcm_f32le"),
    "alaw.wav": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "mulaw.wav": ("-c:a", "pcm_mulaw", "-ar", "8000"),
    "adpcm.wav": ("-c:a", "adpcm_ima_wav"),
    "a.mp3": (),
    "headerless.mp3": ("-write_xing", "0", "-q:a", "5"),
    "index_at_end.m4a": ("-c:a", "aac"),
    "index_at_start.m4a": ("-c:a", "aac", "-movflags", "+faststart"),
    "a.aac": (),
    "a.opus": ("-c:a", "libopus"),
    "a.ogg": ("-c:a", "libvorbis"),
    "a.flac": (),
    "a.webm": ("-c:a", "libopus"),
    "a.mkv": ("-c:a", "flac"),
    "a.wma": ("-c:a", "wmav2"),
    "a.g722": ("-ar", "16000"),
    "a.aiff": (),
    "a.au": (),
    "a.caf": (),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_decoded_whole_and_in_tune(tmp_path, name):
    path = made(tmp_path / name, *FORMATS[name])
    samples_NC, outcome = decoded(path)
    assert (outcome.status, outcome.reason) == ("ok", None)
    assert samples_NC.dtype == np.int16
    assert outcome.duration_s == len(samples_NC) / RATE_HZ
    assert outcome.duration_s == pytest.approx(SECONDS, abs=0.15)
    assert loudest_hz(samples_NC[:, 0]) == pytest.approx(TONE_HZ, abs=2)


def test_the_sound_of_a_video_is_decoded(tmp_path):
    sources = ("testsrc=size=64x64:duration=2", f"sine=frequency={TONE_HZ}:duration=2")
    path = made(tmp_path / "a.mp4", "-c:v", "mpeg4", "-c:a", "aac", sources=sources)
    samples_NC, outcome = decoded(path)
    assert outcome.status == "ok"
    assert loudest_hz(samples_NC[:, 0]) == pytest.approx(TONE_HZ, abs=2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.gsm", (b"\xd0" + bytes(range(32))) * 50),
        ("a.amr", b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50),
    ],
)
def test_telephone_codecs_are_recognised_by_their_names(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    _, outcome = decoded(tmp_path / name)
    assert outcome.status == "ok"
    assert outcome.duration_s == pytest.approx(1.0, abs=0.05)


def cut_off(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize(
    "name", ["s16.wav", "f32.wav", "a.flac", "a.mp3", "a.aiff", "a.webm", "a.opus"]
)
def test_a_file_that_was_cut_off_is_partial(tmp_path, name):
    _, outcome = decoded(cut_off(made(tmp_path / name, *FORMATS[name]), 0.5))
    assert (outcome.status, outcome.reason) == ("partial", "truncated")
    assert outcome.duration_s < 0.75 * SECONDS
    assert outcome.detail


def test_a_wav_of_unknown_length_is_whole(tmp_path):
    content = bytearray(made(tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = b"\xff" * 4
    (tmp_path / "streamed.wav").write_bytes(content)
    _, outcome = decoded(tmp_path / "streamed.wav")
    assert (outcome.status, outcome.duration_s) == ("ok", SECONDS)


def silent_video(path: Path) -> Path:
    return made(path, "-c:v", "mpeg4", "-an", sources=("testsrc=size=64x64:duration=1",))


def many_channels(path: Path) -> Path:
    form = struct.pack("<HHIIHH", 1, 500, 16000, 16000 * 1000, 1000, 16)
    data = b"\1" * 100_000
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def text(content: bytes):
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("page.mp3", text(b"<!doctype html><html>Sign in</html>" * 99), "not_audio"),
        ("empty.wav", text(b""), "empty"),
        ("no_index.m4a", lambda path: cut_off(made(path, "-c:a", "aac"), 0.5), "not_audio"),
        ("silent.mp4", silent_video, "no_audio"),
        ("noise.bin", text(np.random.default_rng(0).bytes(50_000)), "not_audio"),
    ],
)
def test_what_has_no_sound_fails_with_its_reason(tmp_path, name, make, reason):
    samples_NC, outcome = decoded(make(tmp_path / name))
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert len(samples_NC) == 0
    assert outcome.detail
    assert str(tmp_path) not in outcome.detail


def test_five_hundred_channels_end_well(tmp_path):
    _, outcome = decoded(many_channels(tmp_path / "a.wav"))
    assert outcome.status in ("ok", "partial", "failed")


def test_numbers_that_are_none_become_samples(tmp_path):
    path = made(tmp_path / "a.wav", "-c:a", "pcm_f32le")
    content = bytearray(path.read_bytes())
    content[-40_000:-20_000] = np.full(5000, np.nan, "<f4").tobytes()
    path.write_bytes(content)
    _, outcome = decoded(path)
    assert outcome.status == "ok"
    assert outcome.duration_s == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{0}\n#EXT-X-ENDLIST\n"),
        ("list.wav", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{0}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile '{0}'\n"),
        ("list.mp3", "ffconcat version 1.0\nfile '{0}'\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n"),
    ],
)
def test_no_file_leads_to_another(tmp_path, name, content):
    secret = made(tmp_path / "secret.wav")
    (tmp_path / name).write_text(content.format(secret))
    samples_NC, outcome = decoded(tmp_path / name)
    assert (len(samples_NC), outcome.status) == (0, "failed")


@pytest.mark.parametrize(
    "name", ["-i.wav", "http:a.wav", "concat:a|b.wav", "a b'c%d.wav", "\u00e5.wav"]
)
def test_names_are_never_options_or_addresses(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(made(tmp_path / "a.wav").read_bytes())
    assert decoded(name)[1].status == "ok"


def test_a_recording_is_cut_off_at_the_limit(tmp_path):
    path = made(tmp_path / "a.wav")
    samples_NC, outcome = decoded(path, DecodeConfig(max_recording_s=1.0, block_s=0.3))
    assert len(samples_NC) == RATE_HZ
    assert (outcome.status, outcome.reason) == ("partial", "too_long")


def test_a_source_that_says_nothing_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    _, outcome = decoded(tmp_path / "a.wav", DecodeConfig(stall_s=0.5))
    assert (outcome.status, outcome.reason) == ("failed", "timeout")


@pytest.mark.parametrize(
    "goes_on",
    [
        "sleep 99",
        "while printf '\\0\\0'; do sleep 0.05; done",
        "exec >&-; sleep 99",
        "sleep 99 & wait",
    ],
    ids=["hangs", "trickles", "stays", "leaves a child"],
)
def test_a_decoder_that_comes_to_no_end_is_ended_with_what_it_gave(tmp_path, goes_on):
    sound = made(tmp_path / "a.wav", "-ar", str(RATE_HZ))
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\n[ "$1" = -version ] && exit\ncat {sound}\n{goes_on}\n')
    program.chmod(0o755)
    began_s = time.monotonic()
    samples_NC, outcome = decoded(sound, DecodeConfig(ffmpeg=str(program), stall_s=0.5))
    assert time.monotonic() - began_s < 5
    assert (outcome.status, outcome.reason) == ("partial", "timeout")
    assert len(samples_NC) >= SECONDS * RATE_HZ


def test_a_reader_that_leaves_early_leaves_no_process(tmp_path):
    path = made(tmp_path / "a.wav", sources=("anoisesrc=duration=120",))
    with AudioDecoder(path, DecodeConfig(block_s=1), RATE_HZ) as sound:
        next(iter(sound))
    assert sound._process.returncode is not None


def test_block_sizes_never_change_a_sample(tmp_path):
    path = made(tmp_path / "a.mp3")
    whole, _ = decoded(path)
    pieces, _ = decoded(path, DecodeConfig(block_s=0.0123))
    np.testing.assert_array_equal(whole, pieces)


def test_every_channel_comes_out_of_one_pass(tmp_path):
    tones = ("sine=frequency=300:duration=1", "sine=frequency=900:duration=1")
    path = made(tmp_path / "a.flac", "-filter_complex", "amerge=inputs=2", sources=tones)
    samples_NC, _ = decoded(path)
    assert samples_NC.shape[1] == 2
    left, right = (
        np.concatenate(list(select_channel([samples_NC], channel))) for channel in (0, 1)
    )
    assert loudest_hz(left) == pytest.approx(300, abs=2)
    assert loudest_hz(right) == pytest.approx(900, abs=2)


def test_opposite_channels_do_not_silence_each_other():
    tone_N = (9000 * np.sin(np.arange(RATE_HZ * 2) / 9)).astype(np.int16)
    mixed = np.concatenate(list(mix([np.stack([tone_N, -tone_N], axis=1)], RATE_HZ)))
    np.testing.assert_array_equal(mixed, tone_N)


def test_a_mix_is_the_mean_whatever_the_blocks():
    both = np.random.default_rng(0).integers(-9000, 9000, (RATE_HZ * 3 + 77, 2), dtype=np.int16)
    whole = np.concatenate(list(mix([both], RATE_HZ)))
    pieces = np.concatenate(list(mix(np.array_split(both, 13), RATE_HZ)))
    np.testing.assert_array_equal(whole, pieces)
    np.testing.assert_array_equal(whole, np.rint(both.mean(axis=1)).astype(np.int16))


def test_one_speaker_among_silent_channels_is_mixed():
    many = np.zeros((RATE_HZ, 8), np.int16)
    many[:, 3] = 8000
    assert np.concatenate(list(mix([many], RATE_HZ))).tolist() == [1000] * RATE_HZ


STARTS_A_SILENT_DECODER = """
import sys, time
from nightscribe.audio import decode, ffmpeg
command = ffmpeg.decoding_command(ffmpeg.find_ffmpeg(None), sys.argv[1], 24000)
print(decode.start_ffmpeg(command, decode.DecodeConfig()).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_a_decoder_ends_with_its_killed_reader(tmp_path):
    endless = tmp_path / "endless.mp3"
    endless.write_bytes(b"ID3")
    os.truncate(endless, 1 << 40)  # sparse: ffmpeg looks for sound for hours and writes nothing
    command = [sys.executable, "-c", STARTS_A_SILENT_DECODER, str(endless)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        decoder = Path(f"/proc/{int(reader.stdout.readline())}")
        assert decoder.exists()
        reader.kill()
    deadline_s = time.monotonic() + 30
    with suppress(OSError):  # it is gone, and even its status
        while "zombie" not in (decoder / "status").read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


TWO_TONES = ("sine=frequency=440:duration=3", "sine=frequency=1000:duration=1.5")
TWO_TRACKS = ("-map", "0", "-map", "1")


def test_a_file_with_several_tracks_is_partial_until_one_is_chosen(tmp_path):
    """The second one is shorter than the file, which is no damage."""
    path = made(tmp_path / "two.mkv", *TWO_TRACKS, sources=TWO_TONES)
    samples_NC, outcome = decoded(path)
    assert (outcome.status, outcome.reason) == ("partial", "tracks")
    assert "the first of 2 audio tracks" in outcome.detail
    assert loudest_hz(samples_NC[:, 0]) == pytest.approx(440, abs=2)
    samples_NC, outcome = decoded(path, DecodeConfig(track=1))
    assert (outcome.status, outcome.duration_s) == ("ok", pytest.approx(1.5, abs=0.1))
    assert loudest_hz(samples_NC[:, 0]) == pytest.approx(1000, abs=2)
    assert decoded(path, DecodeConfig(track=0))[1].status == "ok"
    samples_NC, outcome = decoded(path, DecodeConfig(track=2))
    assert (len(samples_NC), outcome.reason) == (0, "no_audio")


@pytest.mark.parametrize("suffix", [".avi", ".m4v", ".mpg", ".ts", ".wmv", ".asf"])
def test_the_sound_of_a_video_is_scanned_and_decoded(tmp_path, suffix):
    picture = "color=black:size=64x64:rate=25:duration=3"
    tone = f"sine=frequency={TONE_HZ}:duration={SECONDS}:sample_rate=44100"
    made(tmp_path / f"court{suffix}", sources=(tone, picture))
    (found,) = recordings(str(tmp_path), S3Config())
    samples_NC, outcome = decoded(found.path)
    assert outcome.status == "ok", outcome
    assert loudest_hz(samples_NC[:, 0]) == pytest.approx(TONE_HZ, abs=2)


def test_a_video_without_sound_says_so(tmp_path):
    path = made(tmp_path / "a.mp4", sources=("color=black:size=64x64:duration=1",))
    _, outcome = decoded(path)
    assert (outcome.reason, outcome.detail) == ("no_audio", "there is no audio in this file")
