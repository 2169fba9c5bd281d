"""Options of configurations declare defaults, meanings and limits in one place."""

import math
from dataclasses import FrozenInstanceError, dataclass, fields

import pytest

from nightscribe.options import check_options, group, option


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    depth: int = option(2, "how deep", minimum=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    num: int | None = option(None, "how many", minimum=1)
    rate: float = option(0.5, "a share", minimum=0, maximum=1)
    share: float = option(0.5, "a share", above=0, maximum=1)
    wait_s: float = option(1.0, "how long", above=0)
    kind: str = option("a", "which", choices=("a", "b"))
    names: list[str] = option(["x"], "names")
    inner: Inner = group(Inner, "more")

    def __post_init__(self) -> None:
        check_options(self, "probe")


def test_defaults_are_within_their_limits_and_null_is_always_allowed():
    config = Config()
    assert (config.num, config.names, config.inner) == (None, ["x"], Inner())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"num": 0}, "probe.num must be positive, got 0"),
        ({"rate": 1.5}, "probe.rate must be from 0 to 1, got 1.5"),
        ({"rate": -0.1}, "probe.rate must be from 0 to 1, got -0.1"),
        ({"share": 0}, "probe.share must be above 0 and at most 1, got 0"),
        ({"wait_s": 0.0}, "probe.wait_s must be positive, got 0.0"),
        ({"wait_s": math.nan}, "probe.wait_s must be positive, got nan"),
        ({"kind": "c"}, "probe.kind must be one of a, b, not c"),
    ],
)
def test_a_value_outside_its_limits_is_refused_with_the_limits(given, sentence):
    with pytest.raises(ValueError, match="^" + sentence.replace(".", r"\.") + "$"):
        Config(**given)


def test_a_minimum_alone_is_named_in_the_sentence():
    with pytest.raises(ValueError, match="depth must be 0 or more, got -1"):
        check_options(Inner(depth=-1))


def test_two_configurations_share_no_list():
    assert Config().names is not Config().names


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Config().num = 3  # type: ignore[misc]


def test_every_option_has_a_meaning():
    assert all(one.metadata["help"] for one in fields(Config))
