"""The values of a checkpoint's configuration files, each checked when it is read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from nightscribe.errors import NightscribeError

REQUIRED: Any = object()


class CheckpointError(NightscribeError, ValueError):
    """A checkpoint that cannot be found or read, or that contradicts itself."""


class Settings:
    """One object of a JSON file; errors name the file, the key and what was expected."""

    def __init__(self, values: Mapping[str, Any], origin: Path, prefix: str = "") -> None:
        self._values = values
        self.origin = origin
        self._prefix = prefix

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
        if not isinstance(values, dict):
            raise CheckpointError(f"{path} must hold a JSON object, not {type(values).__name__}")
        return cls(values, path)

    def has(self, key: str) -> bool:
        """Whether the key is present and not null."""
        return self._values.get(key) is not None

    def section(self, key: str) -> Self:
        """A nested object; an absent one is empty."""
        values = self._values.get(key) or {}
        if not isinstance(values, dict):
            raise self.wrong(key, "an object")
        return type(self)(values, self.origin, f"{self._prefix}{key}.")

    def count(self, key: str, default: int = REQUIRED) -> int:
        """A whole number above zero."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, "a whole number above 0")
        return value

    def index(self, key: str, default: int = REQUIRED) -> int:
        """A whole number, zero or above."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, "a whole number, 0 or above")
        return value

    def positive(self, key: str, default: float = REQUIRED) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.wrong(key, "a number above 0")
        return float(value)

    def seconds(self, key: str, default: float = REQUIRED) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 60:
            raise self.wrong(key, "a number of seconds from 0 to 60")
        return float(value)

    def text(self, key: str, default: str = REQUIRED) -> str:
        value = self._value(key, default)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a string")
        return value

    def counts(self, key: str, default: tuple[int, ...] = REQUIRED) -> tuple[int, ...]:
        values = self._value(key, default)
        if not isinstance(values, list | tuple) or not values:
            raise self.wrong(key, "a list of whole numbers above 0")
        if not all(type(value) is int and value > 0 for value in values):
            raise self.wrong(key, "a list of whole numbers above 0")
        return tuple(values)

    def flag(self, key: str, default: bool = REQUIRED) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def indices(self, key: str, default: tuple[int, ...] = REQUIRED) -> tuple[int, ...]:
        """A list of whole numbers, each zero or above."""
        values = self._value(key, default)
        is_list = isinstance(values, list | tuple)
        if not is_list or not all(type(value) is int and value >= 0 for value in values):
            raise self.wrong(key, "a list of whole numbers, 0 or above")
        return tuple(values)

    def names(self, key: str, default: tuple[str, ...] = REQUIRED) -> tuple[str, ...]:
        """A list of strings."""
        values = self._value(key, default)
        is_list = isinstance(values, list | tuple)
        if not is_list or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of strings")
        return tuple(values)

    def keys(self) -> list[str]:
        return list(self._values)

    def texts(self, key: str) -> list[str]:
        """The different values of a nested object, in order."""
        values = list(self.section(key)._values.values())
        if not values or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "an object of strings")
        return sorted(set(values))

    def expect(self, key: str, *allowed: object) -> None:
        """Refuse any value but these; an absent key is the first of them."""
        if key in self._values and self._values[key] not in allowed:
            raise self.wrong(key, " or ".join(json.dumps(value) for value in allowed))

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """The error for a key with a wrong value."""
        found = json.dumps(self._values.get(key))
        name = self._prefix + key
        return CheckpointError(f"{self.origin}: {name!r} is {found:.80}, expected {expected}")

    def _value(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        if value is not None:
            return value
        if default is REQUIRED:
            raise CheckpointError(f"{self.origin} has no {self._prefix + key!r}")
        return default
