"""An actor in a simulation: packets that arrive as earlier ones are done, and slots."""

from bisect import insort
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nightscribe.cluster.packet_plan import BYTES_PER_S, PacketPlan
from nightscribe.runs.commits import MAX_OUTCOMES

COMMIT_S, IDLE_S = 5.0, 0.2


def occupancy(lengths_s: Sequence[float], plan: PacketPlan, num_slots: int, speed: float) -> float:
    """The share of the slots that are in use until the last shard is in one."""
    return _Actor(deque(_packets(lengths_s, plan)), plan, num_slots, speed).run()


def _packets(lengths_s: Sequence[float], plan: PacketPlan) -> list[list[float]]:
    made: list[list[float]] = [[]]
    for length_s in lengths_s:
        full_s = plan.size.num_bytes / BYTES_PER_S
        if len(made[-1]) == plan.size.num_shards or sum(made[-1]) >= full_s:
            made.append([])
        made[-1].append(length_s)
    return made


@dataclass
class _Actor:
    packets: deque[list[float]]  # that have not been sent
    plan: PacketPlan
    num_slots: int
    speed: float
    now_s: float = 0.0
    used_s: float = 0.0
    number: int = 0
    left: Counter[int] = field(default_factory=Counter)  # shards of each packet at the actor
    sent: deque[tuple[int, list[float]]] = field(default_factory=deque)  # and not begun
    queue: deque[tuple[float, int]] = field(default_factory=deque)
    slots: list[tuple[float, int]] = field(default_factory=list)  # when they end, and of which
    waiting: list[int] = field(default_factory=list)  # for a commit
    due_s: float = 0.0

    def run(self) -> float:
        self._fill()
        while self.packets or self.sent or self.queue:
            ends = [self.slots[0][0]] if self.slots else []
            if not ends and not self.queue:
                self.due_s = min(self.due_s, self.now_s + IDLE_S)
            self._pass(min([*ends, *([self.due_s] if self.waiting else [])]))
            if self.waiting and self.now_s >= self.due_s:
                self._commit()
            while self.slots and self.slots[0][0] <= self.now_s:
                self._end(self.slots.pop(0)[1])
            self._fill()
        return self.used_s / (self.num_slots * self.now_s)

    def _pass(self, until_s: float) -> None:
        self.used_s += len(self.slots) * (until_s - self.now_s)
        self.now_s = until_s

    def _end(self, packet: int) -> None:
        if not self.waiting:
            self.due_s = self.now_s + COMMIT_S
        self.waiting.append(packet)
        if len(self.waiting) >= MAX_OUTCOMES:
            self._commit()

    def _commit(self) -> None:
        self.left.subtract(self.waiting)
        self.left, self.waiting = +self.left, []

    def _fill(self) -> None:
        while self.packets and len(self.left) < self.plan.num_calls:
            self.sent.append((self.number, self.packets.popleft()))
            self.left[self.number] = len(self.sent[-1][1])
            self.number += 1
        while self.sent and len(self.queue) + len(self.slots) < self.plan.shards_in_flight:
            number, shards = self.sent.popleft()
            self.queue.extend((length_s, number) for length_s in shards)
        while self.queue and len(self.slots) < self.num_slots:
            length_s, number = self.queue.popleft()
            insort(self.slots, (self.now_s + length_s / self.speed, number))
