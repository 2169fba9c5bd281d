"""Options of configuration dataclasses: default, help text and limits, declared in one place.

@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseConfig:
    life_s: float = option(60.0, "seconds without a renewal until ...", above=0)

    def __post_init__(self) -> None:
        check_options(self, "lease")
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import field, fields
from functools import partial
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    common: bool = False,
) -> Any:
    """A field with a default, a help text and limits; None, where allowed, meets every limit.

    `common` options are on the first page of `--help`.
    """
    limits = {"minimum": minimum, "above": above, "maximum": maximum}
    metadata = {"help": help, "choices": tuple(choices), "common": common, **limits}
    if isinstance(default, list | dict):
        return field(default_factory=partial(copy, default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(make: Any, help: str) -> Any:
    """A field that holds a configuration of its own."""
    return field(default_factory=make, metadata={"help": help})


def check_options(config: Any, prefix: str = "") -> None:
    """Raise ValueError for the first option that is outside its limits or not a choice."""
    for one in fields(config):
        name = f"{prefix}.{one.name}" if prefix else one.name
        value, limits = getattr(config, one.name), one.metadata
        choices = limits.get("choices")
        if value is None:
            continue
        if choices and value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value}")
        if isinstance(value, int | float) and not _is_within(value, limits):
            raise ValueError(f"{name} must be {_range(limits)}, got {value}")


def _is_within(value: float, limits: Any) -> bool:
    """Written so that NaN is outside of every limit."""
    minimum, above, maximum = (limits.get(name) for name in ("minimum", "above", "maximum"))
    return (
        (minimum is None or value >= minimum)
        and (above is None or value > above)
        and (maximum is None or value <= maximum)
    )


def _range(limits: Any) -> str:
    minimum, above, maximum = (limits.get(name) for name in ("minimum", "above", "maximum"))
    if maximum is not None:
        return (
            f"above {above} and at most {maximum}"
            if minimum is None
            else f"from {minimum} to {maximum}"
        )
    if above == 0 or minimum == 1:
        return "positive"
    return f"above {above}" if minimum is None else f"{minimum} or more"
