"""What ffmpeg says about a file's header, under the same limits as any decoding."""

import subprocess
from pathlib import Path

from nightscribe.audio import ffmpeg
from nightscribe.audio.decode import DecodeConfig, end, start


def what_ffmpeg_says(path: str | Path, config: DecodeConfig) -> str:
    """Its lines; nothing is decoded."""
    program = ffmpeg.find_ffmpeg(config.ffmpeg)
    process = start(ffmpeg.probing_command(program, str(path)), config)
    try:
        said = process.communicate(timeout=config.stall_s)[1]
    except subprocess.TimeoutExpired:
        return f"reading the header took over {config.stall_s:g} s"
    finally:
        end(process)
    return said.decode(errors="replace")
