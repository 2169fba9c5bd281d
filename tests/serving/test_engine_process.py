"""The engine's process takes streams from a socket, and never waits unless it is told to."""

import socket

from nightscribe.serving.engine_process import SocketSource
from nightscribe.serving.rings import Rings, RingShape


def test_who_does_not_wait_is_answered_at_once_and_a_closed_socket_has_no_stream(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours:
        source = SocketSource(ours, Rings.create(RingShape(1, 4, 8)))
        with monkeypatch.context() as patched:
            patched.setattr(SocketSource, "receive", None)
            assert source.take(wait=False) is None
        theirs.close()
        assert source.take(wait=True) is None
