"""What every test shares."""

import os
import sys
from pathlib import Path
from secrets import token_hex

# Before torch, ray or a tokenizer is imported by any test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("NO_TORCH_COMPILE", "1")
if not Path("/dev/nvidiactl").exists():  # without a GPU our kernel is interpreted
    os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis
import pytest

from tests import s3_server as s3

# A busy machine is no reason to fail.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
# For ops/mutations, which only wants to know whether something fails.
hypothesis.settings.register_profile(
    "unshrunk", deadline=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Asked by pytest-xdist alone, which may be missing: a GPU machine has little."""
    from tests.distribution import GroupScheduling

    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items):
    """Tests that start a Ray come first; its processes cost the others their time."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_runtest_setup(item):
    """End the Ray of the tests before once nobody needs it."""
    ray = sys.modules.get("ray")
    if ray is not None and item.get_closest_marker("ray") is None and ray.is_initialized():
        ray.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server, started when the first test asks for it."""
    with s3.S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_bucket(s3_server):
    """Every bucket costs the server a few volumes, and it has not many."""
    return s3_server.new_bucket()


@pytest.fixture
def s3_bucket(s3_server, shared_bucket, monkeypatch):
    """`s3://` name of an empty folder, found by the usual chain of credentials."""
    s3.use(s3_server, monkeypatch)
    return f"s3://{shared_bucket}/{token_hex(6)}"


@pytest.fixture(params=["disk", "s3"])
def folder(request, tmp_path):
    """The name of an empty folder, once on disk and once on S3."""
    if request.param == "disk":
        return str(tmp_path / "folder")
    return request.getfixturevalue("s3_bucket") + "/some/prefix"
