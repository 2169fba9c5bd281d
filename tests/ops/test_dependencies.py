"""The list of dependencies with reasons, the bounds and the pins speak of the same packages."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds(texts: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, texts)}


def pins() -> dict[str, Version]:
    lines = (ROOT / "ops/constraints.txt").read_text().split()
    return {canonicalize_name(name): Version(v) for name, v in (one.split("==") for one in lines)}


def reasons() -> dict[str, str]:
    rows = re.findall(
        r"^\| (\S+) \| (.+) \|$", (ROOT / "ops/dependencies.md").read_text(), re.MULTILINE
    )
    return {canonicalize_name(name): why for name, why in rows if name != "package"}


def test_every_dependency_has_a_reason_and_every_reason_a_dependency():
    assert reasons().keys() == bounds(PROJECT["dependencies"]).keys()


def test_every_dependency_is_pinned_within_its_bounds():
    extra = [one for some in PROJECT["optional-dependencies"].values() for one in some]
    pinned = pins()
    for name, bound in bounds([*PROJECT["dependencies"], *extra]).items():
        if name == "triton":  # torch brings the one it was built with
            continue
        assert name in pinned, f"{name} has no pin"
        assert bound.specifier.contains(pinned[name], prereleases=True), f"{name} {pinned[name]}"


def test_every_dependency_says_the_oldest_version_that_works():
    for name, bound in bounds(PROJECT["dependencies"]).items():
        assert any(one.operator in (">=", "==") for one in bound.specifier), name
