"""Wrong settings of engines and fronts are told in one sentence."""

import pytest

from nightscribe.cluster.serving.config import RayServeConfig


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"min_engines": 3, "max_engines": 2}, "less than serve.min_engines"),
        ({"address": "live.example.com/{node}"}, "no other braces"),
        ({"address": "https://live.example.com"}, "without a scheme"),
        ({"target_share": 0.0}, "serve.target_share must be"),
    ],
)
def test_what_cannot_work_is_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        RayServeConfig(**wrong)


def test_an_address_for_a_gateway():
    assert RayServeConfig(address="live.example.com/{host}/{port}").address
