"""Who may connect: keys, origins, and how many sessions of one key."""

import hmac
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nightscribe.errors import NightscribeError
from nightscribe.serving.config import ServingConfig

ANONYMOUS = ""
# A ticket stands for a key in the query of an address that is used at once.
TICKET = "ticket"
TICKET_S = 60


class AccessError(NightscribeError):
    """A client that may not connect; its text is for the client."""


class TooManySessionsError(AccessError):
    """One key has as many sessions as it may have."""


@dataclass(slots=True)
class Access:
    """The keys that are known, and the sessions of each."""

    config: ServingConfig
    sessions: Counter[str] = field(default_factory=Counter)
    _file_keys: tuple[str, ...] = ()
    _file_version: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._keys()  # a file that cannot be read ends the command, not a session

    def key_of(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The client's key; raises `AccessError` if it is not known.

        A header that is wrong is not rescued by the query.
        """
        if TICKET in query:
            return self._key_of_ticket(query[TICKET])
        given = headers.get("kyutai-api-key")
        if given is None and headers.get("Authorization", "").startswith("Bearer "):
            given = headers["Authorization"].removeprefix("Bearer ").strip()
        if given is None:
            given = query.get("auth_id", "")
        return self.checked(given)

    def key_of_headers(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """As `key_of`, where the query may hold a ticket but no key."""
        return self.key_of(headers, {TICKET: query[TICKET]} if TICKET in query else {})

    def ticket(self, key: str) -> str:
        """Stands for this key for a minute, and does not tell it."""
        end_s = int(time.time()) + TICKET_S
        return f"{end_s}.{_signature(key, end_s)}"

    def _key_of_ticket(self, ticket: str) -> str:
        end, _, signature = ticket.partition(".")
        end_s = int(end) if end.isascii() and end.isdecimal() and len(end) < 16 else 0
        if not self._keys():
            return ANONYMOUS
        keys = [k for k in self._keys() if _is_same(signature, _signature(k, end_s))]
        if not keys or end_s < time.time():
            raise AccessError("the ticket is not known, or too old; ask for the address again")
        return keys[0]

    def checked(self, given: str) -> str:
        """The key, or `ANONYMOUS` where none is needed; raises `AccessError` if it is not known."""
        known = self._keys()
        if not known:
            return ANONYMOUS
        # Every key is compared, in constant time.
        matches = [_is_same(given, key) for key in known]
        if not any(matches):
            raise AccessError("the API key is missing or not known")
        return given

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse pages of other sites; clients that are no browsers send no origin."""
        origin = headers.get("Origin")
        if origin is None or "*" in self.config.origins or origin in self.config.origins:
            return
        if urlsplit(origin).netloc != headers.get("Host"):
            raise AccessError(
                f"pages of {origin} may not connect; add it to serving.origins to allow it"
            )

    @contextmanager
    def session(self, key: str) -> Iterator[None]:
        """Count a session of this key; raises `TooManySessionsError` if it has too many."""
        limit = self.config.max_key_sessions
        if limit is not None and self.sessions[key] >= limit:
            raise TooManySessionsError(f"this key has {limit} sessions already")
        self.sessions[key] += 1
        try:
            yield
        finally:
            self.sessions[key] -= 1
            if not self.sessions[key]:
                del self.sessions[key]

    def _keys(self) -> tuple[str, ...]:
        return (*self.config.keys, *self._keys_of_file())

    def _keys_of_file(self) -> tuple[str, ...]:
        if self.config.keys_file is None:
            return ()
        path = Path(self.config.keys_file)
        stat = os.stat(path)
        version = stat.st_mtime_ns, stat.st_size
        if version != self._file_version:
            lines = path.read_text(encoding="utf-8").splitlines()
            self._file_keys = tuple(line.strip() for line in lines if line.strip())
            self._file_version = version
        return self._file_keys


def _signature(key: str, end_s: int) -> str:
    return hmac.new(key.encode(), f"{TICKET} {end_s}".encode(), "sha256").hexdigest()


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
