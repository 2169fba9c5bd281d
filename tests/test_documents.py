"""Commands, keys, files and Python of the documents exist and run as they stand there."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from nightscribe.jobs.cli import COMMANDS, main
from nightscribe.jobs.shell.config import Job
from nightscribe.storage.locations import S3Config, open_store
from tests.documents import (
    DOCUMENTS,
    ROOT,
    code_blocks,
    lines_of_commands,
    name_of,
    quoted,
)
from tests.reading.runs import publish_archive

README, PYTHON, ARCHITECTURE = (
    ROOT / name for name in ("README.md", "docs/python.md", "docs/architecture.md")
)
MAX_README_LINES = 200
SNIPPETS = [*code_blocks(README, "python"), *code_blocks(PYTHON, "python")]
WITHOUT_RAY = [snippet for snippet in SNIPPETS if "import ray" not in snippet]
LINES = sorted({line for document in DOCUMENTS for line in lines_of_commands(document)})
QUOTED = sorted({text for document in DOCUMENTS for text in quoted(document)})
QUOTED_COMMANDS = [text for text in QUOTED if re.match(r"nightscribe \w", text)]
KEY = r"[a-z]\w*(?:\.\w+)+"
KEYS = sorted({key for text in QUOTED for key in re.findall(rf"(?<![\w/.=])({KEY})=", text)})
FOLDERS = "docs|pipeline|jobs|conf|ops|tests|models|samples"
PATHS = sorted({text for text in QUOTED if re.fullmatch(rf"({FOLDERS})/[\w./-]*", text)})
PLACES = re.findall(r"^\| [^|]+ \| `([^`|]+)` \| `(\w+)` \|$", ARCHITECTURE.read_text(), re.M)
# Keys of what is written: rows of a manifest, attributes, and names that a user chooses.
OWN_NAMES = ("model.domains.", "prices.", "language_prompts.")


def job_named(name: str) -> Job:
    return importlib.import_module(f"nightscribe.jobs.{name}").JOB


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the shipped model, the samples and a finished run in it."""
    for name in ("models", "samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    publish_archive(open_store(str(tmp_path / "output"), S3Config()))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("snippet", WITHOUT_RAY, ids=range(len(WITHOUT_RAY)))
def test_every_snippet_runs(snippet, workplace):
    exec(compile(snippet, "README.md", "exec"), {})


def test_the_sure_words_are_found(workplace):
    names = {}
    exec(compile(SNIPPETS[-1], "docs/python.md", "exec"), names)
    assert names["good"].num_rows == 4
    assert names["sure"]


def test_every_command_has_a_line_in_some_document():
    shown = {line.split()[0] for line in LINES} | {text.split()[1] for text in QUOTED_COMMANDS}
    assert shown == COMMANDS.keys()


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_valid(line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nightscribe", *shlex.split(line), "--cfg"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("text", QUOTED_COMMANDS)
def test_a_command_in_a_sentence_exists_and_has_its_keys(text):
    _, name, *words = text.split()
    keys = {word.partition("=")[0] for word in words if "=" in word}
    assert keys <= job_named(name).chosen_by(words).keys.keys()


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_a_sentence_exists(key):
    known = {one for name in COMMANDS for one in job_named(name).keys}
    assert key in known or key.startswith(OWN_NAMES)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_in_a_sentence_exists(path):
    assert (ROOT / path).exists() or any(c.isupper() for c in Path(path).name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_a_place_of_the_architecture_page_has_what_it_names(path, name):
    defined = rf"^(?:async )?(?:def|class) {name}\b|^{name}\b.*="
    assert re.search(defined, (ROOT / path).read_text(), re.M)


def test_the_architecture_page_places_forty_things():
    assert len(re.findall(r"^\| [^|]+ \| `[\w/]+\.py` \|", ARCHITECTURE.read_text(), re.M)) >= 40


def test_the_readme_fits_a_few_screens():
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_pictures_of_the_documents_are_small():
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert pictures
    assert all(path.stat().st_size < 300_000 for path in pictures)
