"""Which engines there are, and which of them the next session goes to. Knows nothing of Ray."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# An engine that has said nothing for this long gets no more sessions.
LOST_S = 5.0
# A client that was sent to an engine has connected by then, or never does.
ARRIVAL_S = 5.0
# What an ended engine has said is kept for this long.
FORGOTTEN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What an engine says of itself, several times a second."""

    engine_id: str
    address: str
    num_slots: int
    num_used: int
    num_connects: int  # since its start
    is_draining: bool = False


@dataclass(slots=True)
class _Engine:
    """An engine, and the sessions that were sent to it and have not arrived."""

    report: EngineReport
    heard_s: float
    sent_s: deque[float] = field(default_factory=deque)

    def hear(self, report: EngineReport, now_s: float) -> None:
        for _ in range(report.num_connects - self.report.num_connects):
            if self.sent_s:
                self.sent_s.popleft()
        self.report, self.heard_s = report, now_s

    def num_free(self, now_s: float) -> int:
        while self.sent_s and self.sent_s[0] < now_s - ARRIVAL_S:
            self.sent_s.popleft()
        return self.report.num_slots - self.report.num_used - len(self.sent_s)

    def takes_sessions(self, now_s: float) -> bool:
        return not self.report.is_draining and self.heard_s > now_s - LOST_S


@dataclass(slots=True)
class EngineDirectory:
    """Engines report; fronts ask. All fronts ask the same one, so that no slot is promised twice.

    Nothing of it must survive: after a restart it knows every engine with its next report.
    """

    clock: Callable[[], float] = time.monotonic
    _engines: dict[str, _Engine] = field(default_factory=dict)
    _drain_s: float | None = None

    def report(self, report: EngineReport) -> float | None:
        """Keep it; the answer is the time to drain within, once everything is to end."""
        now_s = self.clock()
        known = self._engines.get(report.engine_id)
        if known is None:
            self._engines[report.engine_id] = _Engine(report, now_s)
        else:
            known.hear(report, now_s)
        for engine_id, engine in list(self._engines.items()):
            if engine.heard_s < now_s - FORGOTTEN_S:
                del self._engines[engine_id]
        return self._drain_s

    def leave(self, engine_id: str) -> None:
        """The engine has ended."""
        self._engines.pop(engine_id, None)

    def choose(self, *, takes_slot: bool = True) -> str | None:
        """The address of the engine with the most free slots; None if no engine takes sessions.

        If every slot is taken, there is none for a session, but one for other requests.
        """
        now_s = self.clock()
        open_engines = self._open_engines(now_s)
        if not open_engines:
            return None
        best = max(open_engines, key=lambda one: one.num_free(now_s))
        if takes_slot:
            if best.num_free(now_s) <= 0:
                return None
            best.sent_s.append(now_s)
        return best.report.address

    def drain(self, drain_s: float) -> None:
        """End every engine: each learns it with its next report."""
        self._drain_s = drain_s

    def engines(self) -> list[dict[str, Any]]:
        """Every engine that lives."""
        now_s = self.clock()
        return [
            {
                "address": one.report.address,
                "num_slots": one.report.num_slots,
                "num_used": one.report.num_used,
                "is_draining": one.report.is_draining,
            }
            for one in self._engines.values()
            if one.heard_s > now_s - LOST_S
        ]

    def _open_engines(self, now_s: float) -> list[_Engine]:
        if self._drain_s is not None:
            return []
        return [one for one in self._engines.values() if one.takes_sessions(now_s)]
