"""How a decoding went, judged from everything but ffmpeg's own opinion of itself."""

import re
from dataclasses import dataclass

# A header's duration is rounded, and codecs add or drop a little at both ends.
TOLERANCE_S = 0.5
TOLERANCE_SHARE = 0.02
MANY_ERRORS = 10
# The line that explains a failure to a reason code; the first match counts.
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
    "timeout": "ffmpeg all but stood still and was ended",
    "too_long": "the recording is longer than the limit",
    "empty": "the file holds no sample",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a file: its length, whether that is all of it, and why not."""

    status: str  # ok, partial or failed
    duration_s: float
    reason: str | None = None  # a code; None when ok
    detail: str | None = None  # the tool's own last word, or a sentence


def judge(
    *,
    decoded_s: float,
    stated_s: float | None,
    is_cut_short: bool,
    lines: list[str],
    exit_code: int,
    broken: str | None,
) -> Outcome:
    """Hold what came out against what the header promised and what ffmpeg complained of."""
    complaints = [_message(line) for line in lines if re.search(r"\[(error|fatal|panic)\]", line)]
    reason = broken or _reason(decoded_s, stated_s, is_cut_short, complaints, exit_code)
    if reason is None:
        return Outcome(status="ok", duration_s=decoded_s)
    return Outcome(
        status="partial" if decoded_s else "failed",
        duration_s=decoded_s,
        reason=reason,
        detail=_detail(reason, decoded_s, stated_s, is_cut_short, complaints),
    )


def _reason(
    decoded_s: float,
    stated_s: float | None,
    is_cut_short: bool,
    complaints: list[str],
    exit_code: int,
) -> str | None:
    if not decoded_s:
        return _explained(complaints, exit_code)
    if stated_s is not None and decoded_s < stated_s - max(TOLERANCE_S, stated_s * TOLERANCE_SHARE):
        return "truncated"
    if is_cut_short:
        return "truncated"
    if exit_code < 0:
        return "killed"
    if exit_code or len(complaints) >= MANY_ERRORS:
        return "damaged"
    return None


def _explained(complaints: list[str], exit_code: int) -> str:
    for pattern, reason in REASONS.items():
        if any(re.search(pattern, complaint) for complaint in complaints):
            return reason
    if exit_code < 0:
        return "killed"
    return "not_audio" if complaints else "empty"


def _detail(
    reason: str,
    decoded_s: float,
    stated_s: float | None,
    is_cut_short: bool,
    complaints: list[str],
) -> str | None:
    if reason in SENTENCES:
        return SENTENCES[reason]
    if reason == "truncated" and is_cut_short:
        return f"the file ends in the middle of a page, after {decoded_s:.2f} s"
    if reason == "truncated":
        return f"{decoded_s:.2f} s of the stated {stated_s:.2f} s could be decoded"
    return complaints[-1] if complaints else None


def _message(line: str) -> str:
    """A line without the memory addresses and paths that ffmpeg writes before its message.

    What a file says of itself may be made to move the cursor of whoever reads it.
    """
    message = re.sub(r"^(\[[^\]]*\] )+|file:\S*/", "", line)[:500]
    return "".join(letter if letter.isprintable() else "?" for letter in message)
