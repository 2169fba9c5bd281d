"""The image installs what its builder is given, and the wheel made of that is complete."""

from pathlib import Path

from tests.ops.conftest import ROOT, given_files

DOCKERFILE = (ROOT / "ops/Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().split()
COPIED = [
    source
    for line in DOCKERFILE.splitlines()
    if line.startswith("COPY ") and "--from" not in line
    for source in line.split()[1:-1]
]


def test_the_builder_is_given_what_it_copies_and_nothing_else():
    assert IGNORED[0] == "*"
    for name in given_files():
        assert (ROOT / name).exists(), name
        assert any(Path(name).is_relative_to(copied) for copied in COPIED), name
    for copied in COPIED:
        assert any(Path(name).is_relative_to(copied) for name in given_files()), copied


def test_the_builder_makes_the_link_that_the_wheel_is_built_through():
    assert "RUN ln -s pipeline nightscribe &&" in DOCKERFILE


def test_the_image_has_every_command():
    assert 'pip install --constraint constraints.txt ".[all]"' in DOCKERFILE


def test_the_small_model_is_in_the_image_and_transcribes(installed):
    sample = str(ROOT / "samples/human-press-five.flac")
    transcribed = installed.run("file", sample, "model=tiny")
    assert transcribed.returncode == 0, transcribed.stderr
    assert "press" in transcribed.stdout.lower()


def test_the_default_command_of_the_image_is_help(installed):
    assert 'CMD ["nightscribe", "--help"]' in DOCKERFILE
    asked = installed.run("--help")
    assert asked.returncode == 0, asked.stderr
    assert "transcribe" in asked.stdout
