"""A shard suspected of ending its worker runs with no other in the process, and all get a turn."""

import asyncio

import pytest

from nightscribe.cluster.isolation import IsolationLock

SOON_S = 5


async def settle():
    """Let every task that can continue do so."""
    for _ in range(20):
        await asyncio.sleep(0)


class Holder:
    """A holder that waits for a lock, is inside, and leaves on demand."""

    def __init__(self, entering):
        self.is_inside = False
        self._may_leave = asyncio.Event()
        self._task = asyncio.create_task(self._visit(entering))

    async def _visit(self, entering):
        async with entering:
            self.is_inside = True
            await self._may_leave.wait()
        self.is_inside = False

    async def leave(self):
        self._may_leave.set()
        await asyncio.wait_for(self._task, SOON_S)
        await settle()

    async def give_up(self):
        self._task.cancel()
        await settle()


def test_many_share_a_process():
    async def run():
        lock = IsolationLock()
        many = [Holder(lock.shared()) for _ in range(3)]
        await settle()
        assert all(one.is_inside for one in many)
        for one in many:
            await one.leave()

    asyncio.run(run())


def test_a_suspect_waits_until_nobody_else_is_inside():
    async def run():
        lock = IsolationLock()
        others = [Holder(lock.shared()) for _ in range(2)]
        await settle()
        suspect = Holder(lock.alone())
        for other in others:
            await settle()
            assert not suspect.is_inside
            await other.leave()
        assert suspect.is_inside
        await suspect.leave()

    asyncio.run(run())


def test_others_are_held_back_while_a_suspect_runs_alone_and_go_on_after_it():
    async def run():
        lock = IsolationLock()
        suspect = Holder(lock.alone())
        await settle()
        others = [Holder(lock.shared()) for _ in range(2)]
        await settle()
        assert suspect.is_inside
        assert not any(other.is_inside for other in others)
        await suspect.leave()
        assert all(other.is_inside for other in others)
        for other in others:
            await other.leave()

    asyncio.run(run())


def test_nobody_enters_before_a_suspect_that_waits():
    async def run():
        lock = IsolationLock()
        first = Holder(lock.shared())
        await settle()
        suspect = Holder(lock.alone())
        await settle()
        late = Holder(lock.shared())
        await settle()
        assert not late.is_inside
        await first.leave()
        assert suspect.is_inside
        assert not late.is_inside
        await suspect.leave()
        assert late.is_inside
        await late.leave()

    asyncio.run(run())


def test_two_suspects_are_never_inside_together():
    async def run():
        lock = IsolationLock()
        one, other = Holder(lock.alone()), Holder(lock.alone())
        await settle()
        assert (one.is_inside, other.is_inside) == (True, False)
        await one.leave()
        assert other.is_inside
        await other.leave()

    asyncio.run(run())


@pytest.mark.parametrize("way", ["alone", "shared"])
def test_a_failure_inside_lets_the_next_one_enter(way):
    async def run():
        lock = IsolationLock()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the engine died"):
                async with getattr(lock, way)():
                    raise RuntimeError("the engine died")
        async with asyncio.timeout(SOON_S), lock.alone():
            pass

    asyncio.run(run())


def test_a_suspect_that_gives_up_waiting_holds_nobody_back():
    async def run():
        lock = IsolationLock()
        first = Holder(lock.shared())
        await settle()
        suspect = Holder(lock.alone())
        await settle()
        late = Holder(lock.shared())
        await suspect.give_up()
        assert late.is_inside
        await first.leave()
        await late.leave()

    asyncio.run(run())
