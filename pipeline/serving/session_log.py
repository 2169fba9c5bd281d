"""The log of a session: one line when it begins and one when it ends, without audio and text."""

import logging
import time
from dataclasses import dataclass, field
from secrets import token_hex

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SessionLog:
    """Names a session; `with_text` logs its words, too."""

    protocol: str
    client: str
    with_text: bool
    session_id: str = field(default_factory=lambda: token_hex(8))
    _began_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        log.info("session began", extra=self._fields | {"client": self.client})

    @property
    def _fields(self) -> dict[str, str | int | float]:
        return {"session": self.session_id, "protocol": self.protocol}

    def word(self, text: str) -> None:
        if self.with_text:
            log.info("word", extra=self._fields | {"text": text})

    def ended(self, reason: str, num_frames: int) -> None:
        duration_s = round(time.monotonic() - self._began_s, 3)
        fields = {"reason": reason, "num_frames": num_frames, "duration_s": duration_s}
        log.info("session ended", extra=self._fields | fields)
