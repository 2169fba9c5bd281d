import asyncio

import pytest

from nightscribe.jobs.file import load_transcriber, read_audio
from nightscribe.transcription.clips import Clip
from tests.serving.servers import FRAME, RunningServer, heard


@pytest.fixture(scope="session")
def server():
    running = RunningServer()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def bella():
    return read_audio("samples/bella.opus")


@pytest.fixture(scope="session")
def file_words(bella):
    """What `nightscribe file` hears."""
    transcriber = load_transcriber("tiny", settings={"engine.num_slots": 1})
    (found,) = transcriber.transcribe([Clip("bella", bella)])
    return found.words


@pytest.fixture(scope="session")
def reference(server, bella):
    """The session that sends whole frames."""
    return asyncio.run(heard(server.port, bella, FRAME))
