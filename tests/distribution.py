"""How pytest-xdist spreads the suite over processes, where it is asked to.

Tests of one file stay together for the sake of its fixtures. Files stay together that share what is
costly to make: a Ray, a server, an installed wheel. Tests that start a Ray begin first: they take
longest. The groups are made here because `--dist loadgroup` reads none under pytest 9.2.
"""

from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent.parent
# Fixtures of a whole process.
SHARED = ("local_ray", "installed")
SERVING = "tests/serving/"


class GroupScheduling(LoadScopeScheduling):
    """Gives a whole group to one process, in the order of collection."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


@cache
def group_of(path: str) -> str:
    """The group of a test file, given by its path from the root."""
    if path.startswith(SERVING):
        return SERVING
    text = (ROOT / path).read_text()
    return next((name for name in SHARED if name in text), path)
