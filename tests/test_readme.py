"""What the README shows of Python and of commands is as it stands there."""

import re
from pathlib import Path

import pytest

from nightscribe.jobs.cli import COMMANDS
from nightscribe.storage.locations import S3Config, open_store
from tests.reading.runs import publish_archive

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FROM_PYTHON = re.search(r"^## From Python\n(.*?)^## ", README, re.S | re.M)[1]
SNIPPETS = re.findall(r"```python\n(.*?)```", FROM_PYTHON, re.S)
WITHOUT_RAY = [snippet for snippet in SNIPPETS if "import ray" not in snippet]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the shipped model and a finished run in it."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    publish_archive(open_store(str(tmp_path / "output"), S3Config()))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("snippet", WITHOUT_RAY, ids=range(len(WITHOUT_RAY)))
def test_every_snippet_runs(snippet, workplace):
    exec(compile(snippet, "README.md", "exec"), {})


def test_the_sure_words_are_found(workplace):
    names = {}
    exec(compile(SNIPPETS[-1], "README.md", "exec"), names)
    assert names["good"].num_rows == 4
    assert names["sure"]


def test_every_command_of_the_readme_exists():
    named = set(re.findall(r"^nightscribe (\w+)", README, re.M))
    assert named
    assert named <= set(COMMANDS)
