"""The keys of a job's configuration: their names, types, choices and meanings.

Knows dataclasses; does not know Hydra or any job.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a configuration, or one group of keys."""

    path: str
    type: Any
    meaning: str
    choices: tuple[str, ...] = ()
    is_common: bool = False  # on the first page of the help

    @property
    def is_group(self) -> bool:
        return is_dataclass(self.type)

    @property
    def is_optional(self) -> bool:
        return type(None) in _members(self.type)

    @property
    def is_text(self) -> bool:
        return set(_members(self.type)) <= {str, type(None)}

    @property
    def is_open(self) -> bool:
        """Whether it is a mapping, whose keys the user chooses."""
        return any((get_origin(member) or member) is dict for member in _members(self.type))

    @property
    def kind(self) -> str:
        """What its value must be, in words."""
        names = [_kind(member) for member in _members(self.type) if member is not type(None)]
        if self.choices:
            names = [f"one of {', '.join(self.choices)}"]
        return " or ".join([*names, "null"] if self.is_optional else names)


def keys_of(schema: type, prefix: str = "") -> Iterator[Key]:
    """Every key of a configuration dataclass, groups before what they hold."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        kind, notes = hints[field.name], field.metadata
        key = Key(
            path=prefix + field.name,
            type=kind,
            meaning=notes.get("help", ""),
            choices=tuple(notes.get("choices") or _members_of_enum(kind)),
            is_common=notes.get("common", False),
        )
        yield key
        if key.is_group:
            yield from keys_of(kind, f"{key.path}.")


def nearest(name: str, names: list[str], otherwise: str = "see --help") -> str:
    """A hint at the nearest name, or `otherwise` where none is near."""
    found = get_close_matches(name, names, n=1, cutoff=0.5)
    if not found:  # the right name in the wrong group
        last = name.rpartition(".")[2]
        lasts = {candidate.rpartition(".")[2]: candidate for candidate in names}
        found = [lasts[match] for match in get_close_matches(last, list(lasts), n=1, cutoff=0.7)]
    return f"did you mean {found[0]}?" if found else otherwise


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _members_of_enum(kind: Any) -> tuple[str, ...]:
    enums = [member for member in _members(kind) if isinstance(member, type)]
    return tuple(
        option.name
        for enum in enums
        if issubclass(enum, Enum)
        for option in enum.__members__.values()
    )


def _kind(member: Any) -> str:
    if get_origin(member) in (list, tuple):
        return "a list such as [a,b]"
    if get_origin(member) is dict:
        return "a mapping such as {a:b}"
    return KINDS.get(member, "a value")
