"""What has been sent to a worker begins in its order, when slots need it, and no sooner."""

import asyncio

from nightscribe.cluster.admission import Admission


class Packets:
    """Packets that are sent to a worker, and which of them have begun."""

    def __init__(self, enough):
        self.admission, self.begun, self._open = Admission(enough), [], []

    async def send(self, *packets):
        self._open += [asyncio.create_task(self._hold(packet)) for packet in packets]
        await settled()

    async def leave(self, *names):
        self.admission.leave(names)
        await settled()

    async def end(self):
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _hold(self, packet):
        async with self.admission.of(packet.split()):
            self.begun.append(packet)
            await asyncio.Event().wait()


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def test_packets_begin_in_their_order_until_enough_is_under_way():
    async def check():
        packets = Packets(enough=3)
        await packets.send("a b", "c d", "e", "f")
        assert packets.begun == ["a b", "c d"]
        await packets.leave("a")
        assert packets.begun == ["a b", "c d"]
        await packets.leave("d")
        assert packets.begun == ["a b", "c d", "e"]
        await packets.leave("b", "c")
        assert packets.begun == ["a b", "c d", "e", "f"]
        await packets.end()

    asyncio.run(check())


def test_a_packet_begins_though_the_slowest_shards_of_all_earlier_ones_are_left():
    async def check():
        packets = Packets(enough=3)
        for number in range(2):
            await packets.send(f"slow{number} fast{number}")
            await packets.leave(f"fast{number}")
        await packets.send("next")
        assert packets.begun[-1] == "next"
        await packets.end()

    asyncio.run(check())


def test_a_packet_that_ends_makes_room_for_all_that_it_had():
    async def check():
        packets = Packets(enough=2)
        await packets.send("a b", "c")
        await packets.end()
        await packets.send("d")
        assert packets.begun == ["a b", "d"]

    asyncio.run(check())
