"""Who may be heard beside whom in one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Holds many who do not mind each other, or one who is alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._num_inside = 0
        self._num_lonely = 0  # inside or at the door: nobody enters before them

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._num_lonely)
            self._num_inside += 1
        try:
            yield
        finally:
            await self._leave()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._num_lonely += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._num_inside)
                self._num_inside += 1
            try:
                yield
            finally:
                await self._leave()
        finally:
            self._num_lonely -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _leave(self) -> None:
        async with self._changed:
            self._num_inside -= 1
            self._changed.notify_all()
