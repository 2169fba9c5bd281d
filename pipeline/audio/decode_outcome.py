"""How a decoding went: ok, partial or failed, and why.

Neither ffmpeg's exit code nor a header's duration is trusted alone. Two things ffmpeg does not
report of truncated files are read here: the length that a WAV header states, and whether the last
page of an Ogg file is complete.
"""

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

OGG_MARK = b"OggS"
NUM_SEGMENTS_AT = 26
# A header, 255 segments, and as many bytes as those can hold.
MAX_PAGE_BYTES = 27 + 255 + 255 * 255
STREAMED = (0, 0xFFFFFFFF)  # sizes written by programs that stream and do not know the length
# A file may hold a billion empty chunks; the audio comes after a few.
MAX_CHUNKS = 1000
# A header's duration is rounded, and codecs add or drop a little at both ends.
TOLERANCE_S = 0.5
TOLERANCE_SHARE = 0.02
MANY_ERRORS = 10
# Patterns of ffmpeg's messages and their reason codes; the first match counts.
REASONS = {
    r"matches no streams|does not contain any stream": "no_audio",
    r"No such file": "not_found",
    r"Permission denied": "denied",
    r"not on whitelist|whitelist": "not_audio",
    r"Decoder .*not found|Unknown decoder|no decoder|Could not find codec": "unknown_codec",
    r"[Ee]ncrypt|DRM": "encrypted",
    r"Cannot allocate memory|Out of memory": "memory_limit",
    r"Invalid data|could not find|moov atom not found|Header missing|End of file": "not_audio",
}
SENTENCES = {
    "timeout": "ffmpeg made no progress and was killed",
    "too_long": "the recording is longer than the limit",
    "empty": "the file contains no samples",
    "no_audio": "there is no audio in this file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOutcome:
    """How much of a file was decoded, whether that is all of it, and why not."""

    status: str  # ok, partial or failed
    duration_s: float
    reason: str | None = None  # a code; None when ok
    detail: str | None = None  # the last message of ffmpeg, or a sentence


def judge(
    *,
    decoded_s: float,
    stated_s: float | None,
    is_cut_short: bool,
    lines: list[str],
    exit_code: int,
    abort_reason: str | None,
    num_unheard_tracks: int = 0,
) -> DecodeOutcome:
    """Compare the decoded length with the header, and read what ffmpeg reported."""
    errors = [_message(line) for line in lines if re.search(r"\[(error|fatal|panic)\]", line)]
    reason = abort_reason or _reason(decoded_s, stated_s, is_cut_short, errors, exit_code)
    if reason is None and num_unheard_tracks:
        return DecodeOutcome(
            status="partial",
            duration_s=decoded_s,
            reason="tracks",
            detail=f"the first of {num_unheard_tracks + 1} audio tracks is transcribed; "
            "decode.track chooses one",
        )
    if reason is None:
        return DecodeOutcome(status="ok", duration_s=decoded_s)
    return DecodeOutcome(
        status="partial" if decoded_s else "failed",
        duration_s=decoded_s,
        reason=reason,
        detail=_detail(reason, decoded_s, stated_s, is_cut_short, errors),
    )


def _reason(
    decoded_s: float,
    stated_s: float | None,
    is_cut_short: bool,
    errors: list[str],
    exit_code: int,
) -> str | None:
    if not decoded_s:
        return _reason_of_nothing(errors, exit_code)
    if stated_s is not None and decoded_s < stated_s - max(TOLERANCE_S, stated_s * TOLERANCE_SHARE):
        return "truncated"
    if is_cut_short:
        return "truncated"
    if exit_code < 0:
        return "killed"
    if exit_code or len(errors) >= MANY_ERRORS:
        return "damaged"
    return None


def _reason_of_nothing(errors: list[str], exit_code: int) -> str:
    for pattern, reason in REASONS.items():
        if any(re.search(pattern, error) for error in errors):
            return reason
    if exit_code < 0:
        return "killed"
    return "not_audio" if errors else "empty"


def _detail(
    reason: str,
    decoded_s: float,
    stated_s: float | None,
    is_cut_short: bool,
    errors: list[str],
) -> str | None:
    if reason in SENTENCES:
        return SENTENCES[reason]
    if reason == "truncated" and is_cut_short:
        return f"the file ends in the middle of an Ogg page, after {decoded_s:.2f} s"
    if reason == "truncated":
        return f"decoded {decoded_s:.2f} s of the {stated_s:.2f} s that the header states"
    return errors[-1] if errors else None


def _message(line: str) -> str:
    """A line without the memory addresses and paths that ffmpeg writes before its message.

    Non-printable characters are replaced: metadata of a file could send codes to the terminal.
    """
    message = re.sub(r"^(\[[^\]]*\] )+|file:\S*/", "", line)[:500]
    return "".join(char if char.isprintable() else "?" for char in message)


def ends_within_page(path: Path) -> bool:
    """Whether the last page is longer than what is left of the file; False for other files.

    A file that was truncated between two pages looks complete.
    """
    with path.open("rb") as file:
        if file.read(len(OGG_MARK)) != OGG_MARK:
            return False
        file.seek(max(file.seek(0, os.SEEK_END) - MAX_PAGE_BYTES, 0))
        tail = file.read()
    last = tail.rfind(OGG_MARK)
    return last >= 0 and len(tail) - last < _page_bytes(tail[last:])


def _page_bytes(page: bytes) -> int:
    """The length of a page by its own header, or by as much of the header as there is."""
    num_segments = page[NUM_SEGMENTS_AT] if len(page) > NUM_SEGMENTS_AT else 0
    first = NUM_SEGMENTS_AT + 1
    return first + num_segments + sum(page[first : first + num_segments])


def wav_duration_s(path: Path) -> float | None:
    """The duration that a WAV header states; None for other files and if it states none."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF" or file.read(8)[4:] != b"WAVE":
            return None
        bytes_per_s = 0
        for _ in range(MAX_CHUNKS):
            if len(head := file.read(8)) < 8:
                return None
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                return None if size in STREAMED or not bytes_per_s else size / bytes_per_s
            start = file.tell()
            if name == b"fmt " and len(form := file.read(12)) == 12:
                bytes_per_s = struct.unpack_from("<I", form, 8)[0]
            file.seek(start + size + size % 2)
    return None
