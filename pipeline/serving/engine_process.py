"""The process with the model: frames of live streams come in, the output of steps goes back.

Both directions are MessagePack on one socket; audio is in shared memory beside it. A command is an
array that begins with its kind and the channel; the answer to each round is one array.
"""

import contextlib
import logging
import select
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any

import msgpack

from nightscribe.engine.config import EngineConfig
from nightscribe.engine.live import LiveOutput, LiveStream
from nightscribe.engine.loop import Engine, step_engine
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.serving.rings import Rings, RingShape

log = logging.getLogger(__name__)

# Kinds of commands.
OPEN, FRAMES, CLOSE, CANCEL = range(4)
# Kinds of answers.
READY, STEPS, ENDED, FAILED = range(4)
RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """What the engine's process is started with."""

    model: ModelConfig
    engine: EngineConfig
    shape: RingShape
    rings: Any  # of `Rings.handle`
    socket: Any  # a `DupFd`


def start(launch: EngineLaunch) -> BaseProcess:
    """Start the process; it answers `READY` when the model is loaded."""
    process = get_context("spawn").Process(
        target=run_process, args=(launch,), name="nightscribe-engine", daemon=True
    )
    process.start()
    return process


def handle_of(one: socket.socket) -> Any:
    return DupFd(one.fileno())


def run_process(launch: EngineLaunch) -> None:
    """Load the model and serve the socket until it is closed."""
    # The front process decides when to end: Ctrl-C in a terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=launch.socket.detach())
    rings = Rings(launch.shape, launch.rings.detach())
    try:
        engine = _load(launch)
        source = SocketSource(link, rings)
        source.answer([READY, engine.stats.num_slots])
        for _ in engine.run_source(source):
            pass
    except (BrokenPipeError, ConnectionResetError):
        pass  # the front process has ended
    except Exception as error:
        log.exception("the engine failed")
        with contextlib.suppress(OSError):
            link.sendall(msgpack.packb([FAILED, f"{type(error).__name__}: {error}"]))
        raise SystemExit(1) from None


def _load(launch: EngineLaunch) -> Engine:
    from nightscribe.model.checkpoints.open import open_model
    from nightscribe.model.loading import load_step_runner

    runner = load_step_runner(open_model(launch.model), launch.engine)
    return step_engine(
        runner,
        round_steps=launch.engine.round_steps,
        reproducible=launch.engine.reproducible,
        live=True,
    )


@dataclass(slots=True, eq=False)
class _Channel:
    """A live stream and how much of it was read."""

    stream: LiveStream
    num_frames: int = 0  # read from the ring
    num_steps: int = 0  # answered


@dataclass(slots=True)
class SocketSource:
    """A source of live streams over the commands that come from a socket."""

    link: socket.socket
    rings: Rings
    _channels: dict[int, _Channel] = field(default_factory=dict)
    _opened: deque[LiveStream] = field(default_factory=deque)
    _outputs: list[list[Any]] = field(default_factory=list)
    _ended: list[int] = field(default_factory=list)
    _unpacker: Any = field(default_factory=msgpack.Unpacker)
    _is_closed: bool = False
    _waited_until_s: float = field(default_factory=time.monotonic)

    def take(self, *, wait: bool) -> LiveStream | None:
        """The next stream that was opened; None if there is none, or the socket was closed."""
        while True:
            while self._opened:
                stream = self._opened.popleft()
                if not stream.is_cancelled:
                    return stream
            if not wait or self._is_closed:
                return None
            self.receive(wait=True)

    def receive(self, *, wait: bool) -> None:
        """Send what the last round gave, and obey what has come."""
        self._send_outputs()
        if self._is_closed or not self._is_readable(wait):
            return
        data = self.link.recv(RECEIVE_BYTES)
        if not data:
            self._shut()
            return
        self._unpacker.feed(data)
        for command in self._unpacker:
            self._obey(*command)
        self._send_outputs()

    def answer(self, message: list[Any]) -> None:
        self.link.sendall(msgpack.packb(message))

    def _is_readable(self, wait: bool) -> bool:
        readable = bool(select.select([self.link], [], [], None if wait else 0)[0])
        if wait:
            self._waited_until_s = time.monotonic()
        return readable

    def _obey(self, kind: int, channel: int, argument: Any) -> None:
        if kind == OPEN:
            self._open(channel, argument)
        elif kind == FRAMES:
            one = self._channels[channel]
            one.stream.push(self.rings.read(channel, one.num_frames, argument))
            one.num_frames += argument
        elif kind == CLOSE:
            self._close_stream(channel)
        elif kind == CANCEL:
            if channel in self._channels:
                self._channels.pop(channel).stream.cancel()
            self._ended.append(channel)

    def _open(self, channel: int, settings: dict[str, Any]) -> None:
        def on_output(output: LiveOutput) -> None:
            self._outputs.append(_packed(channel, output))
            one.num_steps += len(output.tokens_T)
            if output.is_last:
                del self._channels[channel]

        stream = LiveStream(channel, on_output, self.rings.shape.frame_samples, **settings)
        one = self._channels[channel] = _Channel(stream)
        self._opened.append(stream)

    def _close_stream(self, channel: int) -> None:
        """No round is under way: either steps are left, whose output ends the stream, or none."""
        one = self._channels[channel]
        one.stream.close()
        if one.num_steps == one.stream.num_steps:
            self._outputs.append([channel, one.num_steps, b"", b"", b"", True])
            del self._channels[channel]

    def _send_outputs(self) -> None:
        if self._outputs:
            now_s = time.monotonic()
            self.answer([STEPS, now_s - self._waited_until_s, self._outputs])
            self._waited_until_s, self._outputs = now_s, []
        if self._ended:
            self.answer([ENDED, self._ended])
            self._ended = []

    def _shut(self) -> None:
        """The front process is gone: end every stream."""
        self._is_closed = True
        for one in self._channels.values():
            one.stream.cancel()
        self._channels.clear()
        self._opened.clear()


def _packed(channel: int, output: LiveOutput) -> list[Any]:
    return [
        channel,
        output.first_step,
        output.tokens_T.astype("<i4").tobytes(),
        output.confidences_T.astype("<f4").tobytes(),
        output.vad_TH.astype("<f4").tobytes(),
        output.is_last,
    ]
