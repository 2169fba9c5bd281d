"""The wheel, built once from exactly the files that the builder of the image is given."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAKE_WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
FOREIGN = ("conf", "jobs", "pipeline", "models")


@dataclass(frozen=True, slots=True)
class Installed:
    """The package outside of the repository, beside foreign packages named like our folders."""

    wheel: Path
    site: Path  # what `pip install --target` made
    folder: Path  # the current folder of commands
    foreign: Path  # on PYTHONPATH

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess:
        """The command `nightscribe` as a user calls it."""
        return self._run([sys.executable, str(self.site / "bin/nightscribe"), *words], variables)

    def python(self, code: str) -> subprocess.CompletedProcess:
        return self._run([sys.executable, "-c", code], {})

    def _run(self, command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(self.foreign), str(self.site)])
        environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"} | variables
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=280
        )


def given_files() -> list[str]:
    """The files that .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().split()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for name in given_files():
        _copy(ROOT / name, source / name)
    (source / "nightscribe").symlink_to("pipeline")
    subprocess.run(
        [sys.executable, "-c", MAKE_WHEEL, str(place)], cwd=source, check=True, capture_output=True
    )
    (made,) = place.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Installed:
    place = tmp_path_factory.mktemp("installed")
    site, folder, foreign = place / "site", place / "folder", place / "foreign"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
    folder.mkdir()
    for parent in (folder, foreign):
        for name in FOREIGN:
            _foreign_package(parent / name)
    (folder / "click.py").write_text('raise ImportError("a script of the user")\n')
    return Installed(wheel, site, folder, foreign)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _foreign_package(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('raise ImportError("a foreign package")\n')


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as packed:
        return packed.namelist()


def read_from(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(name).decode()
