"""How much of what has been sent to a worker has begun: what its slots need, and no more.

If the worker dies, all that has begun is suspected of it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Admission:
    """Lets packets begin in the order they came, while fewer shards than `enough` are under way."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._under_way: set[str] = set()
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def of(self, names: Sequence[str]) -> AsyncIterator[None]:
        async with self._turn:
            while len(self._under_way) >= self._enough:
                self._changed.clear()
                await self._changed.wait()
            self._under_way.update(names)
        try:
            yield
        finally:
            self.leave(names)

    def leave(self, names: Sequence[str]) -> None:
        """These need no slot any more, though their packet may not be done."""
        self._under_way.difference_update(names)
        self._changed.set()
