"""What the image installs, made of exactly the files that its builder is given."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "ops/Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().split()
GIVEN = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
COPIED = [
    source
    for line in DOCKERFILE.splitlines()
    if line.startswith("COPY ") and "--from" not in line
    for source in line.split()[1:-1]
]
MAKE_WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Our packages as `pip install .` lays them out in the image."""
    place = tmp_path_factory.mktemp("image")
    source, site = place / "source", place / "site"
    for name in GIVEN:
        _copy(ROOT / name, source / name)
    assert "RUN ln -s pipeline nightscribe &&" in DOCKERFILE
    (source / "nightscribe").symlink_to("pipeline")
    subprocess.run([sys.executable, "-c", MAKE_WHEEL, place], cwd=source, check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def nightscribe(installed: Path, *words: str) -> subprocess.CompletedProcess:
    """The command in the image, in a folder where nothing of ours lies."""
    return subprocess.run(
        [sys.executable, "-m", "nightscribe", *words],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )


def test_the_builder_is_given_what_it_copies_and_nothing_else():
    assert IGNORED[0] == "*"
    for name in GIVEN:
        assert (ROOT / name).exists(), name
        assert any(Path(name).is_relative_to(copied) for copied in COPIED), name
    for copied in COPIED:
        assert any(Path(name).is_relative_to(copied) for name in GIVEN), copied


def test_the_small_model_is_in_the_image_and_hears(installed):
    heard = nightscribe(
        installed, "file", str(ROOT / "samples/human-press-five.flac"), "model=tiny"
    )
    assert heard.returncode == 0, heard.stderr
    assert "press" in heard.stdout.lower()


def test_what_the_image_does_unless_told_otherwise_is_help(installed):
    assert 'CMD ["nightscribe", "--help"]' in DOCKERFILE
    asked = nightscribe(installed, "--help")
    assert asked.returncode == 0, asked.stderr
    assert "transcribe" in asked.stdout
