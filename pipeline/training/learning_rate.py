"""Shares of what is drawn, as options."""

from dataclasses import fields
from typing import Any


def check_rates(config: Any) -> None:
    """Raise ValueError unless every option of a dataclass whose name ends in `_rate` is a share."""
    for option in fields(config):
        rate = getattr(config, option.name)
        if option.name.endswith("_rate") and not 0 <= rate <= 1:
            raise ValueError(f"{option.name} must lie in 0..1, got {rate}")
