"""What a client may set of a realtime session."""

from dataclasses import dataclass, replace
from typing import Any

from nightscribe.serving.transcriptions import RequestError
from nightscribe.serving.turns import HEADS, TurnDetection

PCM, MULAW, ALAW = "audio/pcm", "audio/pcmu", "audio/pcma"
RATES_HZ = (8_000, 16_000, 24_000, 48_000)
TELEPHONE_HZ = 8_000
MIN_SILENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """What a client may set by `session.update`."""

    format: str = PCM
    rate_hz: int = 24_000
    turns: TurnDetection | None = None
    turns_as_asked: Any = None

    def updated(self, session: Any, num_heads: int) -> "RealtimeSettings":
        """With the fields of an update; raises `RequestError` for what cannot be done."""
        if not isinstance(session, dict) or session.get("type", "transcription") != "transcription":
            raise RequestError("session.type must be transcription", "session.type")
        audio = _dict(session.get("audio"), "session.audio")
        given = _dict(audio.get("input"), "session.audio.input")
        settings = self
        if given.get("format") is not None:
            settings = settings._with_format(_dict(given["format"], "session.audio.input.format"))
        if "turn_detection" in given:
            settings = settings._with_turns(given["turn_detection"], num_heads)
        return settings

    def _with_format(self, given: dict[str, Any]) -> "RealtimeSettings":
        kind = given.get("type", PCM)
        if kind in (MULAW, ALAW):
            return replace(self, format=kind, rate_hz=TELEPHONE_HZ)
        rate_hz = given.get("rate", 24_000)
        if kind != PCM or rate_hz not in RATES_HZ:
            known = ", ".join(map(str, RATES_HZ))
            raise RequestError(
                f"the format must be {PCM} at one of {known} Hz, {MULAW} or {ALAW}",
                "session.audio.input.format",
            )
        return replace(self, format=kind, rate_hz=rate_hz)

    def _with_turns(self, given: Any, num_heads: int) -> "RealtimeSettings":
        name = "session.audio.input.turn_detection"
        if given is None:
            return replace(self, turns=None, turns_as_asked=None)
        kind = _dict(given, name).get("type")
        if kind not in ("server_vad", "semantic_vad"):
            raise RequestError(f"{name}.type must be server_vad or semantic_vad", name)
        head = HEADS.get(given.get("eagerness", "auto"), HEADS["auto"])
        threshold = given.get("threshold", 0.5)
        if not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise RequestError(f"{name}.threshold must be between 0 and 1", name)
        silence_s = TurnDetection().silence_s
        if isinstance(given.get("silence_duration_ms"), int | float):
            silence_s = max(given["silence_duration_ms"] / 1000, MIN_SILENCE_S)
        turns = TurnDetection(max(min(head, num_heads - 1), 0), float(threshold), silence_s)
        return replace(self, turns=turns, turns_as_asked=given)


def _dict(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(f"{name} must be an object", name)
    return value
