"""Which shards may run beside each other in one worker: isolates suspects of worker deaths."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class IsolationLock:
    """Admits many holders that share the worker, or a single one that has it alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._num_inside = 0
        self._num_alone = 0  # inside or waiting: no shared holder enters before them

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._num_alone)
            self._num_inside += 1
        try:
            yield
        finally:
            await self._leave()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._num_alone += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._num_inside)
                self._num_inside += 1
            try:
                yield
            finally:
                await self._leave()
        finally:
            self._num_alone -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _leave(self) -> None:
        async with self._changed:
            self._num_inside -= 1
            self._changed.notify_all()
