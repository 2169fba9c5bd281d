"""Completion in bash of commands, keys and values: `eval "$(nightscribe completion)"`."""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module

from jobs.cli import COMMANDS
from jobs.config import Job, options_of
from jobs.keys import Key

SCRIPT = """\
_nightscribe() {
    local IFS=$'\\n'
    COMPREPLY=($(nightscribe completion "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    if [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}
complete -o default -F _nightscribe nightscribe
"""


def main() -> None:
    """Print the script, or what may stand at the end of the line that is given."""
    if len(sys.argv) == 1:
        sys.stdout.write(SCRIPT)
    else:
        sys.stdout.writelines(f"{word}\n" for word in candidates(sys.argv[1]))


def candidates(line: str) -> list[str]:
    """What may stand at the end of a line that begins with `nightscribe `, in bash's own pieces.

    Bash breaks words at `=`: of a value, only what comes after it is completed.
    """
    words = line.split(" ")[1:]
    if len(words) < 2:
        return _beginning(COMMANDS, words[-1] if words else "")
    if words[0] not in COMMANDS or words[0] == "completion":
        return []
    job: Job = import_module(f"jobs.{words[0]}").JOB
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
