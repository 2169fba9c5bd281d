"""Every error of the package is one of a tree, and says whose fault it is."""

import ast
from pathlib import Path

import pytest

from nightscribe import errors
from nightscribe.errors import NightscribeError, fault_of
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.storage.errors import StorageError

ROOT = Path(__file__).parent.parent
ROOTS = {"Exception", "BaseException", "ValueError", "OSError", "RuntimeError", "LookupError"}


def error_classes() -> dict[str, list[str]]:
    """The names of all classes that derive from an error, and of their bases."""
    found = {}
    for folder in ("pipeline", "jobs"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                    if {*bases} & {*ROOTS, "NightscribeError"}:
                        found[node.name] = bases
    return found


def test_every_error_derives_from_the_one_base_and_is_in_the_drawn_tree():
    found = error_classes()
    assert len(found) > 10
    for name, bases in found.items():
        assert name == "NightscribeError" or "NightscribeError" in bases, name
        assert f" {name} " in errors.__doc__ or name == "NightscribeError", name


def test_the_tree_names_no_error_that_is_gone():
    drawn = {line.split()[1] for line in errors.__doc__.splitlines() if line[4:6] in ("|-", "`-")}
    assert drawn == {*error_classes()} - {"NightscribeError"}


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (CheckpointError("no"), "user"),
        (StorageError("not_found", "a"), "environment"),
        (ValueError("no"), "user"),
        (FileNotFoundError("no"), "environment"),
        (KeyError("no"), "bug"),
        (NightscribeError("no"), "user"),
    ],
)
def test_an_error_says_whose_fault_it_is(error, fault):
    assert fault_of(error) == fault
