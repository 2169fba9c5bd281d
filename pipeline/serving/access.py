"""Who may connect: keys, origins, and how many sessions of one key."""

import hmac
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nightscribe.errors import NightscribeError
from nightscribe.serving.config import ServingConfig

ANONYMOUS = ""


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
        given = headers.get("kyutai-api-key")
        if given is None and headers.get("Authorization", "").startswith("Bearer "):
            given = headers["Authorization"].removeprefix("Bearer ").strip()
        if given is None:
            given = query.get("auth_id", "")
        return self.checked(given)

    def checked(self, given: str) -> str:
        """The key, or `ANONYMOUS` where none is needed; raises `AccessError` if it is not known."""
        known = self._keys()
        if not known:
            return ANONYMOUS
        # Every key is compared, in constant time.
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in known]
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
