"""What a server holds hears of its end."""

from types import SimpleNamespace
from unittest.mock import Mock

from nightscribe.serving.backend import Backend


def test_every_socket_and_every_text_hears_that_the_server_goes_away():
    backend = SimpleNamespace(sockets=[Mock(), Mock()], speech=Mock())
    Backend.end_sessions(backend)
    for socket in backend.sockets:
        socket.fail.assert_called_once()
    backend.speech.end_sessions.assert_called_once_with()
