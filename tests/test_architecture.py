"""The rules of the house that a machine can hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("pipeline", "jobs") for path in (ROOT / folder).rglob("*.py"))
LIGHT_MODULES = [
    "nightscribe",
    "nightscribe.records",
    "nightscribe.errors",
    "nightscribe.options",
    "nightscribe.jobs.cli",
    "nightscribe.audio",
    "nightscribe.storage",
    "nightscribe.model.word_timestamps",
    "nightscribe.storage.run",
    "nightscribe.storage.sources",
    "nightscribe.planning",
    "nightscribe.publishing",
    "nightscribe.stitching",
    "nightscribe.local.execution",
    "nightscribe.runs.attempt",
    "nightscribe.runs.audio_reader",
    "nightscribe.engine",
    "nightscribe.model.checkpoints.model_config",
    "nightscribe.model.tokenizer",
    "nightscribe.rendering.formats",
    "nightscribe.scoring.word_errors",
    "nightscribe.guards.inspection",
    "nightscribe.guards.stall_retry",
]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40


def test_imports_point_down():
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert lint.returncode == 0, lint.stdout


LOAD = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
    print(name, *({"torch", "ray", "hydra"} & set(sys.modules)))
"""


def test_light_modules_load_neither_torch_nor_ray():
    """In one process: where all of them load none, each of them does."""
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, *LIGHT_MODULES], capture_output=True, text=True, cwd=ROOT
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.splitlines() == LIGHT_MODULES


def test_decoders_committers_and_drivers_load_no_torch():
    script = "import sys, nightscribe.cluster.driver; print('torch' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    assert loaded.stdout.strip() == "False", loaded.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    source = path.read_text()
    assert source.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"
