"""A front in this process: an HTTP server with the routes of the deployment, and a directory."""

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import uvicorn

from nightscribe.cluster.serving.directory import EngineDirectory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, about Ray
    from nightscribe.cluster.serving.front import Front, app

# What `serve.ingress` was given: the class that it makes starts only in a replica.
PLAIN_FRONT = Front.__mro__[1]
START_S = 60


class LocalDirectory:
    """A directory, called as through a handle of Ray Serve."""

    def __init__(self) -> None:
        self._inner = EngineDirectory()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=partial(_Answer, getattr(self._inner, name)))


class _Answer:
    def __init__(self, method, *given, **named) -> None:
        self._value = method(*given, **named)

    def result(self) -> Any:
        return self._value

    def __await__(self) -> Iterator[Any]:
        yield from ()
        return self._value


@contextmanager
def local_front(settings, port: int) -> Iterator[LocalDirectory]:
    """The directory of a front that listens."""
    directory, server = LocalDirectory(), settings.server
    front = PLAIN_FRONT(server.serving, server.model.name, directory, None)
    asked = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    listening = uvicorn.Server(asked)
    thread = threading.Thread(target=listening.run)
    # Where the routes look for the replica that they are in.
    with patch("ray.serve.get_replica_context", lambda: SimpleNamespace(servable_object=front)):
        thread.start()
        try:
            _wait_for(listening)
            yield directory
        finally:
            listening.should_exit = True
            thread.join()


def _wait_for(listening: uvicorn.Server) -> None:
    deadline_s = time.monotonic() + START_S
    while not listening.started:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
