"""The list of dependencies with reasons, the bounds and the pins speak of the same packages."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = "nightscribe"  # extras that name other extras


def bounds(texts: list[str]) -> dict[str, Requirement]:
    found = {canonicalize_name(one.name): one for one in map(Requirement, texts)}
    return {name: one for name, one in found.items() if name != OURS}


def pins() -> dict[str, Version]:
    lines = (ROOT / "ops/constraints.txt").read_text().split()
    return {canonicalize_name(name): Version(v) for name, v in (one.split("==") for one in lines)}


def reasons() -> set[tuple[str, str]]:
    """Package and extra of every row; the extra is empty for the core."""
    text = (ROOT / "ops/dependencies.md").read_text()
    rows = re.findall(r"^\| (\S+) \| (\w*) ?\| .+ \|$", text, re.MULTILINE)
    return {(canonicalize_name(name), extra) for name, extra in rows if name != "package"}


def runtime_dependencies() -> set[tuple[str, str]]:
    groups = {"": PROJECT["dependencies"]} | EXTRAS
    return {
        (name, extra)
        for extra, texts in groups.items()
        if extra not in ("all", "dev")
        for name in bounds(texts)
    }


def test_every_dependency_has_a_reason_and_every_reason_a_dependency():
    assert reasons() == runtime_dependencies()


def test_every_dependency_is_pinned_within_its_bounds():
    extra = [one for some in EXTRAS.values() for one in some]
    pinned = pins()
    for name, bound in bounds([*PROJECT["dependencies"], *extra]).items():
        if name == "triton":  # torch brings the one it was built with
            continue
        assert name in pinned, f"{name} has no pin"
        assert bound.specifier.contains(pinned[name], prereleases=True), f"{name} {pinned[name]}"


def test_every_dependency_says_the_oldest_version_that_works():
    runtime = [*PROJECT["dependencies"], *EXTRAS["report"], *EXTRAS["evaluate"], *EXTRAS["train"]]
    for name, bound in bounds(runtime).items():
        assert any(one.operator in (">=", "==") for one in bound.specifier), name


def test_the_hooks_of_pre_commit_have_the_pinned_versions():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"python"}
    for hook in hooks:
        for one in map(Requirement, hook["additional_dependencies"]):
            assert one.specifier == SpecifierSet(f"=={pins()[canonicalize_name(one.name)]}")


def test_the_extra_all_has_every_other_extra_and_dev_has_all():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all", "dev"}
    assert "nightscribe[all]" in EXTRAS["dev"]
