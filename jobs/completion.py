"""Completion in bash of commands, keys and values: `eval "$(nightscribe completion)"`."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

from nightscribe.jobs.cli import COMMANDS
from nightscribe.jobs.shell.config import Job, Key, options_of
from nightscribe.options import option

SCRIPT = """\
_nightscribe() {
    local IFS=$'\\n'
    COMPREPLY=($(nightscribe completion "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    if [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}
complete -o default -F _nightscribe nightscribe
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionConfig:
    """Print the bash script that completes commands, keys and values."""

    line: str | None = option(None, "complete the end of this command line, and print no script")


def complete(config: CompletionConfig) -> None:
    if config.line is None:
        sys.stdout.write(SCRIPT)
    else:
        sys.stdout.writelines(f"{word}\n" for word in candidates(config.line))


def candidates(line: str) -> list[str]:
    """Completions of the last word of a line that begins with `nightscribe `.

    Bash splits words at `=`: of `key=value`, only the value is completed.
    """
    words = line.split(" ")[1:]
    if len(words) < 2:
        return _beginning(COMMANDS, words[-1] if words else "")
    if words[0] not in COMMANDS:
        return []
    job: Job = import_module(f"nightscribe.jobs.{words[0]}").JOB
    path, is_value, value = words[-1].partition("=")
    return _beginning(_values(job, path), value) if is_value else _beginning(_keys(job), path)


def _keys(job: Job) -> Iterator[str]:
    for key in job.keys.values():
        if not key.is_group or options_of(key.path):
            yield f"{key.path}="


def _values(job: Job, path: str) -> list[str]:
    key = job.keys.get(path)
    if key is None:
        return []
    return options_of(path) if key.is_group else _choices(key)


def _choices(key: Key) -> list[str]:
    if key.choices:
        return list(key.choices)
    return ["true", "false"] if "true or false" in key.kind else []


def _beginning(words: Iterable[str], start: str) -> list[str]:
    return [word for word in words if word.startswith(start)]


JOB = Job(name="completion", config=CompletionConfig, run=complete, positional=("line",))
