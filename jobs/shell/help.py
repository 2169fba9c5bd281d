"""`--help`: the common keys of a job with defaults and meanings; `--help all`: every key."""

import textwrap
from typing import Any

from omegaconf import ListConfig

from nightscribe.jobs.shell.config import Job, defaults, options_of
from nightscribe.jobs.shell.keys import Key

KEY_COLUMNS = 34
LINE_COLUMNS = 100


def help_of(job: Job, every_key: bool = False) -> str:
    """The page for one job."""
    values = defaults(job)
    keys = sorted(job.keys.values(), key=_is_of_group)
    shown = [key for key in keys if every_key or _is_common(key, keys)]
    usage = " ".join(["usage: nightscribe", job.name, *_asked(job, values), "[key=value ...]"])
    lines = [usage, "", *_paragraph(job.config.__doc__ or ""), ""]
    for key in shown:
        lines += _group(key) if key.is_group else _line(key, values)
    hidden = sum(not key.is_group for key in keys) - sum(not key.is_group for key in shown)
    more = ["", f"{hidden} more keys: nightscribe {job.name} --help all"] if hidden else []
    return "\n".join([*lines, *more, "", *_flags()]) + "\n"


def _is_common(key: Key, keys: list[Key]) -> bool:
    """A job's own keys, keys marked as common, and groups with choices or with such keys."""
    if "." not in key.path and not key.is_group:
        return True
    if not key.is_group:
        return key.is_common
    inside = (other for other in keys if other.path.startswith(f"{key.path}."))
    return bool(options_of(key.path)) or any(_is_common(other, keys) for other in inside)


def _asked(job: Job, values: dict[str, Any]) -> list[str]:
    """The keys that must be given, and those that may be given without their name."""
    alone = [name.upper() if name not in values else f"[{name.upper()}]" for name in job.positional]
    missing = [path for path in job.keys if path not in values and path not in job.positional]
    groups = (path.partition(".")[0] for path in missing if "." in path)
    own = (f"{path}={path.upper()}" for path in missing if "." not in path)
    return [*alone, *own, *dict.fromkeys(f"{group}=NAME" for group in groups)]


def _is_of_group(key: Key) -> bool:
    """A job's own keys come first: below a group's heading they would seem to belong to it."""
    return key.is_group or "." in key.path


def _group(key: Key) -> list[str]:
    options = options_of(key.path)
    named = f"{key.path}=NAME of {', '.join(options)}" if options else key.path
    return ["", *_paragraph(f"{named}: {key.meaning}")]


def _line(key: Key, values: dict[str, Any]) -> list[str]:
    choices = f" ({', '.join(key.choices)})" if key.choices else ""
    start = f"  {key.path}={_typed(values[key.path])}" if key.path in values else f"  {key.path}"
    group = key.path.partition(".")[0]
    instead = f", or {group}=NAME" if "." in key.path and options_of(group) else ""
    required = "" if key.path in values else f"; must be given{instead}"
    return _columns(start, key.meaning + choices + required)


def _typed(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, ListConfig):
        return f"[{','.join(map(_typed, value))}]"
    return {"None": "null", "True": "true", "False": "false", "": "''"}.get(str(value), str(value))


def _columns(start: str, meaning: str) -> list[str]:
    indent = " " * KEY_COLUMNS
    first = start.ljust(KEY_COLUMNS) if len(start) < KEY_COLUMNS - 1 else f"{start}\n{indent}"
    wrapped = textwrap.wrap(meaning, LINE_COLUMNS - KEY_COLUMNS)
    return (first + f"\n{indent}".join(wrapped)).split("\n")


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), LINE_COLUMNS)


def _flags() -> list[str]:
    return [
        *_columns("  -m, --multirun", "run once for each combination of values such as a.b=1,2"),
        *_columns("  --cfg", "print the configuration and exit"),
        *_columns("  -h, --help [all]", "print this page, or every key"),
    ]
