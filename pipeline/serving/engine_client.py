"""The front's end of the engine's process: a channel for each stream, and what comes back."""

# T steps, H VAD heads

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from nightscribe.engine.config import EngineConfig
from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.serving import engine_process
from nightscribe.serving.engine_process import CANCEL, CLOSE, ENDED, FRAMES, OPEN, READY, STEPS
from nightscribe.serving.metrics import Metrics
from nightscribe.serving.rings import Rings, RingShape

log = logging.getLogger(__name__)

MAX_CHANNELS = 4096  # where the number of slots is left to the engine; memory is taken as used
STALLED_S = 10.0  # frames that wait this long for a step mean that the engine hangs
RELEASE_S = 2.0  # for the round that is under way when a slot is given back
ANSWER_BYTES = 1 << 20


class EngineError(NightscribeError):
    """The engine's process has ended or hangs."""

    fault = "environment"


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The output of the next steps of a channel's stream."""

    first_step: int
    tokens: list[int]
    confidences: list[float]
    vad_TH: np.ndarray
    is_last: bool


@dataclass(slots=True, eq=False)
class Channel:
    """One stream of the engine; at most a ring of frames is ahead of it."""

    engine: "EngineClient"
    index: int
    is_file: bool
    on_steps: Callable[[Steps], None]
    on_failure: Callable[[str], None]
    num_written: int = 0
    num_done: int = 0  # frames whose steps are done
    arrivals_s: deque[float] = field(default_factory=deque)  # of the frames that wait
    moved_s: float = 0.0  # when frames last began to wait, or a step was made
    has_room: asyncio.Event = field(default_factory=asyncio.Event)
    is_released: bool = False
    num_cancelled: int = 0  # streams whose end the engine has not confirmed yet

    @property
    def num_waiting(self) -> int:
        return self.num_written - self.num_done

    @property
    def room_frames(self) -> int:
        return self.engine.rings.shape.num_frames - self.num_waiting

    def write(self, samples_N: np.ndarray) -> None:
        """Hand over whole frames, for which there must be room."""
        rings = self.engine.rings
        num_frames = len(samples_N) // rings.shape.frame_samples
        now_s = time.monotonic()
        if not self.num_waiting:
            self.moved_s = now_s
        self.arrivals_s.extend([now_s] * num_frames)
        rings.write(self.index, self.num_written, samples_N)
        self.num_written += num_frames
        self.engine.send([FRAMES, self.index, num_frames])

    async def write_all(self, samples_N: np.ndarray) -> None:
        """As `write`, for any number of frames; waits for room."""
        frame_samples = self.engine.rings.shape.frame_samples
        while len(samples_N) and not self.is_over:
            if not self.room_frames:
                self.has_room.clear()
                await self.has_room.wait()
                continue
            end = min(self.room_frames * frame_samples, len(samples_N))
            self.write(samples_N[:end])
            samples_N = samples_N[end:]

    @property
    def is_over(self) -> bool:
        return self.is_released or bool(self.engine.failure)

    def close(self) -> None:
        """End the stream after what was written."""
        self.engine.send([CLOSE, self.index, None])

    def write_silence(self, num_frames: int) -> None:
        if num_frames:
            self.write(np.zeros(num_frames * self.engine.rings.shape.frame_samples, np.int16))

    def discard(self) -> None:
        """Forget the frames that wait, before a restart."""
        self.num_written = self.num_done
        self.arrivals_s.clear()

    def restart(self, settings: dict[str, Any], prefix_frames: int = 0) -> None:
        """Begin a new stream with silence and the frames that wait."""
        rings = self.engine.rings
        waiting_N = rings.read(self.index, self.num_done, self.num_waiting)
        self.num_cancelled += 1
        self.num_written = self.num_done = 0
        self.arrivals_s.clear()
        self.engine.send([CANCEL, self.index, None])
        self.engine.send([OPEN, self.index, settings])
        self.write_silence(prefix_frames)
        if len(waiting_N):
            self.write(waiting_N)

    def release(self) -> None:
        """End the stream at once and give the channel back when the engine has let it go."""
        if not self.is_released:
            self.is_released = True
            self.num_cancelled += 1
            self.engine.send([CANCEL, self.index, None])
            self.has_room.set()

    def take_steps(self, steps: Steps) -> None:
        if self.num_cancelled:
            return
        num_done = max(self.num_done, steps.first_step + len(steps.tokens) - 1)
        self.moved_s = time.monotonic()
        for _ in range(num_done - self.num_done):
            lag_s = self.moved_s - self.arrivals_s.popleft()
            if not self.is_file:
                self.engine.metrics.lag.observe(lag_s)
        self.num_done = num_done
        self.has_room.set()
        self.on_steps(steps)


class EngineClient:
    """Starts the engine's process, and knows which of its slots are in use."""

    def __init__(
        self,
        model: ModelConfig,
        engine: EngineConfig,
        *,
        frame_samples: int,
        num_heads: int,
        ring_frames: int,
        file_share: float,
        metrics: Metrics,
    ) -> None:
        shape = RingShape(engine.num_slots or MAX_CHANNELS, ring_frames, frame_samples)
        self.rings = Rings.create(shape)
        self.num_slots, self.failure = 0, ""
        self._model, self._engine, self.metrics = model, engine, metrics
        self._num_heads, self._file_share = num_heads, file_share
        self._free: deque[int] = deque()
        self._open: dict[int, Channel] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._on_ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the process and wait until the model is loaded."""
        ours, theirs = socket.socketpair()
        launch = engine_process.EngineLaunch(
            model=self._model,
            engine=self._engine,
            shape=self.rings.shape,
            rings=self.rings.handle(),
            socket=engine_process.handle_of(theirs),
        )
        self._process = engine_process.start(launch)
        theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._receiving = asyncio.create_task(self._receive())
        self.num_slots = await self._on_ready
        self._free.extend(range(min(self.num_slots, self.rings.shape.num_channels)))

    async def stop(self) -> None:
        """End the process, and every stream with it."""
        self._receiving.cancel()
        self._writer.close()
        await asyncio.to_thread(self._process.join, 5)
        if self._process.is_alive():
            self._process.kill()

    @property
    def num_used(self) -> int:
        return self.num_slots - len(self._free)

    @property
    def health(self) -> str:
        """Why the engine is not healthy; empty if it is."""
        if self.failure:
            return self.failure
        late_s = time.monotonic() - STALLED_S
        stalled = [one for one in self._open.values() if one.num_waiting and one.moved_s < late_s]
        return f"no step for {STALLED_S:.0f} s with audio waiting" if stalled else ""

    def open(
        self,
        settings: dict[str, Any],
        on_steps: Callable[[Steps], None],
        on_failure: Callable[[str], None],
        *,
        is_file: bool = False,
    ) -> Channel | None:
        """A channel for a new stream; None if every slot is taken."""
        if self.failure:
            raise EngineError(f"the engine has ended: {self.failure}")
        if not self._free or (is_file and not self._has_file_slot()):
            return None
        channel = Channel(self, self._free.popleft(), is_file, on_steps, on_failure)
        self._open[channel.index] = channel
        self.metrics.open_channels.set(self.num_used)
        self.send([OPEN, channel.index, settings])
        return channel

    async def open_file(
        self,
        settings: dict[str, Any],
        on_steps: Callable[[Steps], None],
        on_failure: Callable[[str], None],
    ) -> Channel:
        """As `open`, for a file, which waits for a slot."""
        while (channel := self.open(settings, on_steps, on_failure, is_file=True)) is None:
            await self._next_free()
        return channel

    async def wait_for_release(self) -> None:
        """If every slot is taken, wait shortly for one that is being given back."""
        if not self._free and any(one.is_released for one in self._open.values()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._next_free(), RELEASE_S)

    async def _next_free(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    @property
    def num_file_slots(self) -> int:
        """Slots that files may use."""
        return max(1, int(self._file_share * self.num_slots))

    def _has_file_slot(self) -> bool:
        return sum(one.is_file for one in self._open.values()) < self.num_file_slots

    def send(self, command: list[Any]) -> None:
        if not self.failure:
            self._writer.write(msgpack.packb(command))

    async def _receive(self) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=0)
        reason = "its process has ended"
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(ANSWER_BYTES):
                unpacker.feed(data)
                for kind, *content in unpacker:
                    if kind == engine_process.FAILED:
                        reason = content[0]
                    else:
                        self._take(kind, content)
        self._fail(reason)

    def _take(self, kind: int, content: list[Any]) -> None:
        if kind == STEPS:
            duration_s, outputs = content
            self.metrics.step_duration.observe(duration_s)
            for output in outputs:
                self._open[output[0]].take_steps(self._steps(*output))
        elif kind == ENDED:
            for index in content[0]:
                self._confirm_end(self._open[index])
        elif kind == READY:
            self._on_ready.set_result(content[0])

    def _steps(
        self, channel: int, first: int, tokens: bytes, confidences: bytes, vad: bytes, last: bool
    ) -> Steps:
        vad_TH = np.frombuffer(vad, "<f4").reshape(-1, self._num_heads or 1)
        return Steps(
            first,
            np.frombuffer(tokens, "<i4").tolist(),
            np.frombuffer(confidences, "<f4").tolist(),
            vad_TH if self._num_heads else np.empty((len(tokens) // 4, 0), np.float32),
            last,
        )

    def _confirm_end(self, channel: Channel) -> None:
        channel.num_cancelled -= 1
        if channel.is_released and not channel.num_cancelled:
            del self._open[channel.index]
            self._free.append(channel.index)
            self.metrics.open_channels.set(self.num_used)
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def _fail(self, reason: str) -> None:
        """Every session ends with this reason; none can begin."""
        self.failure = reason
        log.error("the engine has ended: %s", reason)
        if not self._on_ready.done():
            self._on_ready.set_exception(EngineError(f"the engine did not start: {reason}"))
        for channel in list(self._open.values()):
            channel.has_room.set()
            channel.on_failure(reason)
        self._wake()
