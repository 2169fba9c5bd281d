"""What a run needs beside a device: programs, libraries, stores. One sentence each."""

import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huggingface_hub import HfApi, constants

from nightscribe.audio.ffmpeg import find_ffmpeg
from nightscribe.storage.s3 import source_of_credentials

LIBRARIES = ("torch", "ray", "pyarrow", "huggingface_hub")
HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and whether a run can do without what it is about."""

    is_well: bool
    sentence: str


def findings(ask_hub: bool, ffmpeg: str | None = None) -> Iterator[Finding]:
    """Of everything; `ffmpeg` is the program that was configured, if one was."""
    yield _ffmpeg(ffmpeg)
    yield _libraries()
    yield _hub(ask_hub)
    yield _credentials()


def _ffmpeg(configured: str | None) -> Finding:
    try:
        program = find_ffmpeg(configured)
    except ValueError as error:
        return Finding(False, f"{error}: no recording can be decoded")
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    if answer.returncode or len(words) < 3:
        return Finding(False, f"ffmpeg does not run: {program} ended with {answer.returncode}")
    return Finding(True, f"ffmpeg {words[2]} at {program}")


def _libraries() -> Finding:
    known = {name: _version(name) for name in LIBRARIES}
    missing = [name for name, found in known.items() if found is None]
    told = ", ".join(f"{name} {found}" for name, found in known.items() if found)
    if missing:
        return Finding(False, f"{', '.join(missing)} not installed (there are {told})")
    return Finding(True, f"Python {platform.python_version()}, {told}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _hub(ask: bool) -> Finding:
    cache = Path(constants.HF_HUB_CACHE)
    num_kept = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    kept = f"{num_kept} models of the hub are kept in {cache}"
    if not ask:
        return Finding(True, f"{kept}; the hub was not asked (hub=true does)")
    try:
        HfApi().model_info("kyutai/stt-2.6b-en", timeout=HUB_TIMEOUT_S)
    except Exception as error:
        return Finding(False, f"{kept}; the hub does not answer ({type(error).__name__})")
    return Finding(True, f"{kept}; the hub answers")


def _credentials() -> Finding:
    source = source_of_credentials()
    if source is None:
        return Finding(
            True, "no S3 credentials lie on this machine; a role of the machine was not asked for"
        )
    return Finding(True, f"S3 credentials are there (from {source})")
