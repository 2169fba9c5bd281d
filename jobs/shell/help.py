"""`--help`: every key of a job with its default and its meaning."""

import textwrap
from typing import Any

from omegaconf import ListConfig

from nightscribe.jobs.shell.config import Job, defaults, options_of
from nightscribe.jobs.shell.keys import Key

KEY_COLUMNS = 34
LINE_COLUMNS = 100


def help_of(job: Job) -> str:
    """The page for one job."""
    values = defaults(job)
    usage = " ".join(["usage: nightscribe", job.name, *_asked(job, values), "[key=value ...]"])
    lines = [usage, "", *_paragraph(job.config.__doc__ or ""), ""]
    for key in sorted(job.keys.values(), key=_is_of_group):
        lines += _group(key) if key.is_group else _line(key, values)
    return "\n".join([*lines, "", *_options()]) + "\n"


def _asked(job: Job, values: dict[str, Any]) -> list[str]:
    """What must be given, and what may stand without a name."""
    alone = [name.upper() if name not in values else f"[{name.upper()}]" for name in job.positional]
    missing = [path for path in job.keys if path not in values and path not in job.positional]
    groups = (path.partition(".")[0] for path in missing if "." in path)
    own = (f"{path}={path.upper()}" for path in missing if "." not in path)
    return [*alone, *own, *dict.fromkeys(f"{group}=NAME" for group in groups)]


def _is_of_group(key: Key) -> bool:
    """A job's own keys come first: behind a group they would seem to be of that."""
    return key.is_group or "." in key.path


def _group(key: Key) -> list[str]:
    options = options_of(key.path)
    named = f"{key.path}=NAME of {', '.join(options)}" if options else key.path
    return ["", *_paragraph(f"{named}: {key.meaning}")]


def _line(key: Key, values: dict[str, Any]) -> list[str]:
    choices = f" ({', '.join(key.choices)})" if key.choices else ""
    start = f"  {key.path}={_typed(values[key.path])}" if key.path in values else f"  {key.path}"
    meaning = key.meaning + choices + ("" if key.path in values else "; must be given")
    return _columns(start, meaning)


def _typed(value: Any) -> str:
    """A value as it is typed."""
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


def _options() -> list[str]:
    return [
        *_columns("  -m, --multirun", "run once for each combination of values such as a.b=1,2"),
        *_columns("  --cfg", "print the configuration instead of running"),
        *_columns("  -h, --help", "this page"),
    ]
