"""Sound files of every common kind, made with ffmpeg."""

import subprocess

import imageio_ffmpeg

CODECS = {
    "wav": ("pcm_s16le", []),
    "flac": ("flac", []),
    "mp3": ("mp3", ["-b:a", "64k"]),
    "ogg": ("vorbis", ["-c:a", "libvorbis"]),
    "opus": ("opus", []),
    "m4a": ("aac", ["-b:a", "64k"]),
    "mka": ("aac", ["-c:a", "aac"]),
    "webm": ("opus", ["-c:a", "libopus"]),
    "aiff": ("pcm_s16be", []),
}


def make_sound(path, duration_s=7.0, rate_hz=16_000, channels=1, options=()):
    source = f"sine=frequency=440:sample_rate={rate_hz}:duration={duration_s}"
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*program, "-ac", str(channels), *options, str(path)], check=True)
    return path
