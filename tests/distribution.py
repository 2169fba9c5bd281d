"""How pytest-xdist spreads the suite over processes, where it is asked to.

Tests of one file stay together for the sake of its fixtures. Files stay together that share what is
dear to make: a Ray, a server, an installed wheel. What takes longest begins first.
"""

import pytest

DEAR = ("local_ray", "server", "installed")


def spread(items: list[pytest.Item]) -> None:
    """Marks each test with its group, and puts those that start a Ray before all others."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def _group(item: pytest.Item) -> str:
    fixtures = getattr(item, "fixturenames", ())
    return next((name for name in DEAR if name in fixtures), item.location[0])
