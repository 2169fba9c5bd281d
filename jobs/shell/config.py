"""From `key=value` words to a job's configuration, checked against its dataclass.

Hydra composes: the YAML files in `conf` give groups of values, the dataclass gives keys, types and
defaults. A wrong word is refused here, in one sentence, before it reaches Hydra.
"""

import itertools
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from importlib.resources import files
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nightscribe.errors import NightscribeError

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class ConfigError(NightscribeError, ValueError):
    """A wrong word on the command line."""


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
    for one in fields(schema):
        kind, notes = hints[one.name], one.metadata
        key = Key(
            path=prefix + one.name,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command: its name, its configuration, its function, and how keys may be written.

    The values of `positional` keys may stand without a name; `options` may be `--KEY VALUE`, too.
    Where a key of `instead` is given, that other job runs.
    """

    name: str
    config: type
    run: Callable[[Any], int | None]
    positional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    instead: Mapping[str, "Job"] = field(default_factory=dict)

    def chosen_by(self, words: Sequence[str]) -> "Job":
        """This job, or the one that a word selects instead."""
        given = {word.partition("=")[0] for word in words if "=" in word}
        return next((job for key, job in self.instead.items() if key in given), self)

    @property
    def keys(self) -> dict[str, Key]:
        return {key.path: key for key in keys_of(self.config)}


def configurations(job: Job, words: list[str], multirun: bool = False) -> list[Any]:
    """The configuration that the words describe; with `multirun` one for each combination."""
    return [config for _, config in _configurations(job, words, multirun)]


def labelled_configurations(job: Job, words: list[str]) -> list[tuple[str, Any]]:
    """One configuration for each combination of values, with the words that choose it."""
    return _configurations(job, words, multirun=True)


def _configurations(job: Job, words: list[str], multirun: bool) -> list[tuple[str, Any]]:
    overrides = list(_parsed(job, words, multirun))
    _check_keys(job, overrides)
    with _conf(job):
        return [
            (" ".join(one.input_line or "" for one in choice), _configuration(job, list(choice)))
            for choice in _combinations(overrides, multirun)
        ]


def defaults(job: Job) -> dict[str, Any]:
    """The default of every key; keys that must be given are left out."""
    with _conf(job):
        composed = compose(job.name)
    missing = OmegaConf.missing_keys(composed)
    return {path: OmegaConf.select(composed, path) for path in job.keys if path not in missing}


def options_of(group: str) -> list[str]:
    """The names that a group of `conf` can be set to."""
    folder = files("nightscribe.conf") / group
    if not folder.is_dir():
        return []
    return sorted(
        file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
    )


def _conf(job: Job) -> Any:
    schema = _unlocked(OmegaConf.structured(job.config))
    ConfigStore.instance().store(name=f"{job.name}_schema", node=schema)
    return initialize_config_module("nightscribe.conf", version_base="1.3", job_name=job.name)


def _unlocked(node: DictConfig) -> DictConfig:
    """A schema that can be merged into, although its dataclasses are frozen."""
    OmegaConf.set_readonly(node, None)
    for child in map(node._get_node, node):
        if isinstance(child, DictConfig) and not child._is_missing():
            _unlocked(child)
    return node


def _parsed(job: Job, words: list[str], multirun: bool) -> Iterator[Override]:
    parser = OverridesParser.create()
    positional = iter(job.positional)
    for word in words:
        if word.startswith(("+", "~")):
            raise ConfigError(f"{word}: keys can be set, but not added or removed")
        if not re.match(r"[\w./@-]+=", word) or _is_file(word):
            written = f"{_next_positional(job, positional, word)}={_quoted(word)}"
        else:
            written = _switched(job, word if multirun else _with_quoted_text(job, word))
        try:
            yield parser.parse_override(written)
        except HydraException as error:
            raise ConfigError(f"{word}: the value cannot be read ({error})") from None


def _switched(job: Job, word: str) -> str:
    """`revise=true` is short for `revise.on=true`, where a group has such a key."""
    path, _, value = word.partition("=")
    is_switch = value in ("true", "false") and f"{path}.on" in job.keys
    return f"{path}.on={value}" if is_switch else word


def _is_file(word: str) -> bool:
    """Whether a word is a path although it holds an equals sign: ./a=b.wav"""
    return word.startswith((".", "/"))


def _next_positional(job: Job, names: Iterator[str], word: str) -> str:
    name = next(names, None)
    if name is None:
        hint = _positional_arguments(job, word)
        if job.positional:
            hint = nearest(word, list(job.keys), hint)
        raise ConfigError(f"{word!r} is not of the form key=value; {hint}")
    return name


def _positional_arguments(job: Job, word: str) -> str:
    """Which arguments a job takes without a key."""
    if job.positional:
        return f"the only positional arguments are {' and '.join(job.positional).upper()}"
    first = next(iter(job.keys), "key")
    return f"{job.name} takes no positional arguments; use {first}={word}"


def _with_quoted_text(job: Job, word: str) -> str:
    """Keep the value of a text key literal: file names may hold commas, brackets and spaces."""
    path, _, value = word.partition("=")
    key = job.keys.get(path)
    if key is None or not key.is_text or value[:1] in ("'", '"') or value in ("null", "???"):
        return word
    return f"{path}={_quoted(value)}"


def _is_in_mapping(keys: dict[str, Key], path: str) -> bool:
    holders = [path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1)]
    return any(keys[holder].is_open for holder in holders if holder in keys)


def _quoted(value: str) -> str:
    escaped = re.sub(r"(\\*)('|$)", r"\1\1\2", value).replace("'", r"\'")
    return f"'{escaped}'"


def _check_keys(job: Job, overrides: list[Override]) -> None:
    keys = job.keys
    for override in overrides:
        path = override.key_or_group
        if path not in keys and not _is_in_mapping(keys, path):
            raise ConfigError(f"there is no key {path}; {nearest(path, list(keys))}")
        if path in keys and keys[path].is_group:
            _check_option(path, override)


def _check_option(group: str, override: Override) -> None:
    options = options_of(group)
    if not options:
        raise ConfigError(f"{group} is a group of keys; set one of them, as in {group}.KEY=VALUE")
    asked = list(override.sweep_string_iterator()) if override.is_sweep_override() else None
    for name in asked or [str(override.value())]:
        if name not in options:
            hint = f"; {nearest(name, options)}" if len(options) > 5 else ""
            raise ConfigError(f"there is no {group} {name}; there are {', '.join(options)}{hint}")


def _combinations(overrides: list[Override], multirun: bool) -> Iterator[tuple[Override, ...]]:
    """Every choice of one value for each key that was given several."""
    parser = OverridesParser.create()
    choices = []
    for override in overrides:
        if not override.is_sweep_override():
            choices.append([override])
        elif multirun:
            values = override.sweep_string_iterator()
            choices.append(
                [parser.parse_override(f"{override.get_key_element()}={value}") for value in values]
            )
        else:
            raise ConfigError(f"{override.input_line}: several values need --multirun")
    return itertools.product(*choices)


def _configuration(job: Job, overrides: list[Override]) -> Any:
    composed = _composed(job, overrides)
    missing = OmegaConf.missing_keys(composed)
    if missing:
        raise ConfigError(_missing(job, min(missing, key=[*job.keys].index)))
    _check_choices(job, composed)
    return OmegaConf.to_object(composed)


def _missing(job: Job, path: str) -> str:
    key = job.keys.get(path)
    meaning = f" ({key.meaning})" if key and key.meaning else ""
    group = path.partition(".")[0]
    options = [name for name in options_of(group) if name != "none"] if "." in path else []
    if options:
        return f"{group}=NAME must be given, one of {', '.join(options)}; or {path}=VALUE{meaning}"
    return f"{path} must be given{meaning}"


def _composed(job: Job, overrides: list[Override]) -> DictConfig:
    merged = [override for override in overrides if _is_merged(job.keys, override.key_or_group)]
    lines = [override.input_line or "" for override in overrides if override not in merged]
    try:
        composed = compose(job.name, overrides=lines)
        with open_dict(composed):
            composed.merge_with(*map(_nested, merged))
        OmegaConf.resolve(composed)
        return composed
    except OmegaConfBaseException as error:
        raise ConfigError(_sentence(job, overrides, error)) from None
    except HydraException as error:
        raise ConfigError(_sentence(job, overrides, error.__cause__ or error)) from None


def _is_merged(keys: dict[str, Key], path: str) -> bool:
    """What OmegaConf can set and Hydra cannot.

    These are values in a mapping, and plain keys such as `speakers` of `export` that are named like
    a group of other commands.
    """
    is_plain = path in keys and not keys[path].is_group
    return _is_in_mapping(keys, path) or (is_plain and bool(options_of(path)))


def _nested(override: Override) -> dict[str, Any]:
    value: Any = override.value()
    for name in reversed(override.key_or_group.split(".")):
        value = {name: value}
    return value


def _sentence(job: Job, overrides: list[Override], error: BaseException) -> str:
    path = getattr(error, "full_key", None) or ""
    key = job.keys.get(path)
    values = dict((one.input_line or "").partition("=")[::2] for one in overrides)
    if key is not None and path in values:
        return f"{path} must be {key.kind}, not {values[path]}"
    reason = " ".join(str(error).split("\n    ")[0].split())
    return f"{path}: {reason}" if path else reason


def _check_choices(job: Job, composed: DictConfig) -> None:
    for key in job.keys.values():
        value = OmegaConf.select(composed, key.path) if key.choices and key.is_text else None
        if value is not None and value not in key.choices:
            raise ConfigError(f"{key.path} must be {key.kind}, not {value}")
