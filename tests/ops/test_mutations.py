"""What `ops/mutations` breaks, and what it leaves alone."""

import ast
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def mutations():
    loader = SourceFileLoader("mutations", str(ROOT / "ops/mutations"))
    module = module_from_spec(spec_from_loader("mutations", loader))
    sys.modules["mutations"] = module  # where dataclasses look for it
    loader.exec_module(module)
    return module


def broken(mutations, source):
    """The source with each of its places broken, one at a time."""
    found = []
    for index, _ in enumerate(ast.walk(ast.parse(source))):
        tree = ast.parse(source)
        if mutations._break(list(ast.walk(tree))[index]):
            found.append(ast.unparse(tree))
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x < y", ["x <= y"]),
        ("x + y", ["x - y"]),
        ("x += y", ["x -= y"]),
        ("x and y", ["x or y"]),
        ("y = 7", ["y = 8"]),
        ("y = 0.5", ["y = 0.625"]),
        ("y = 4096", []),
        ("y = True", ["y = False"]),
        ("y = not x", ["y = not (not x)"]),
        ("if x:\n    y", ["if not x:\n    y"]),
        ("y = min(x)", ["y = max(x)"]),
        ("store.delete(x)", ["None"]),
    ],
)
def test_a_place_is_broken_in_one_way(mutations, source, expected):
    assert broken(mutations, source) == [ast.unparse(ast.parse(one)) for one in expected]


def test_types_decorators_and_logs_are_left_alone(mutations, tmp_path):
    path = tmp_path / "code.py"
    path.write_text(
        "@dataclass(slots=True)\nclass A:\n    x: Literal[3]\n\n\nlog.info('%d', 1 + 1)\n"
    )
    assert mutations._places(str(path)) == []


def test_a_break_meets_the_tests_of_its_folder_and_first_those_that_name_its_module(
    mutations, monkeypatch
):
    monkeypatch.chdir(ROOT)
    naming, others = mutations._tests_of("pipeline/storage/content_hash.py")
    assert naming == ("tests/storage/test_content_hash.py", "tests/storage/test_sources.py")
    assert "tests/storage/test_parts.py" in others
    assert not set(naming) & set(others)
    assert mutations._tests_of("jobs/plan.py")[0][0] == "tests/jobs/test_plan.py"


@pytest.mark.parametrize(
    ("line", "is_inside", "expected"),
    [
        (1, False, ("tests/test_a.py",)),
        (2, True, ("tests/test_a.py::x",)),
        (3, True, ("tests/test_a.py",)),
        (4, True, ("tests/test_a.py",)),
        (5, True, ()),
    ],
)
def test_a_break_meets_the_tests_that_execute_its_line(mutations, line, is_inside, expected):
    lines = {
        1: [""],  # executed by an import: every test that executes something of the file
        2: ["tests/test_a.py::x|run"],
        3: ["tests/test_a.py::x|setup"],  # by a fixture, whose value other tests may use
        4: ["", "tests/test_a.py::y|run"],  # by a process of some test, too
    }
    unbroken = mutations.Unbroken("tests/test_a.py", {"code.py": lines}, wall_s=1.0)
    assert unbroken.tests_of("code.py", line, line, is_inside) == expected


def test_an_import_meets_the_tests_that_execute_something_of_its_file(mutations):
    lines = {1: [""], 2: ["tests/test_a.py::x|run"], 3: ["tests/test_a.py::y|run"]}
    unbroken = mutations.Unbroken("tests/test_a.py", {"code.py": lines}, wall_s=1.0)
    assert unbroken.tests_of("code.py", 1, 1, False) == ("tests/test_a.py::x", "tests/test_a.py::y")
