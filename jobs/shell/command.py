"""What every command does around its work: parse its words, print help, report errors.

`--help` prints the common keys with defaults and meanings, `--help all` every key. A missing module
is reported as the extra of the package that installs it.
"""

import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from omegaconf import ListConfig, OmegaConf

from nightscribe.errors import NightscribeError, fault_of
from nightscribe.jobs import BAD_INPUT, INTERRUPTED
from nightscribe.jobs.shell.config import (
    ConfigError,
    Job,
    Key,
    configurations,
    defaults,
    labelled_configurations,
    nearest,
    options_of,
)
from nightscribe.runs.process_end import exit_process

HELP = ("-h", "--help")
MULTIRUN = ("-m", "--multirun")
FLAGS = (*HELP, *MULTIRUN, "--cfg")
ALL = "all"
# Bugs keep their traceback; with this variable set, so does every other error.
TRACE_VARIABLE = "NIGHTSCRIBE_TRACE"
KEY_COLUMNS = 34
MIN_LINE_COLUMNS, MAX_LINE_COLUMNS = 60, 100
EXTRA_OF_MODULE = {
    "aiohttp": "serve",
    "msgpack": "serve",
    "sounddevice": "microphone",
    "soxr": "serve",
    "google": "train",  # protobuf
    "jinja2": "report",
    "apprise": "notify",
    "docx": "docx",
    "jiwer": "evaluate",
    "matplotlib": "train",
    "sacrebleu": "evaluate",
    "whisper_normalizer": "evaluate",
}
# An extra installs all that its command needs, although modules belong to several.
EXTRA_OF_COMMAND = {"train": "train"}


def run_job(name: str, load: Callable[[], Job], words: list[str]) -> NoReturn:
    """Load the job of that name, do what the words ask of it, and exit."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # It logs every attempt to reach the hub; our own sentence says what came of them.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)

    def work() -> int:
        with extras_named(name):
            return _run(load().chosen_by(words), words)

    code = _guarded(work)
    exit_process(code)


def _run(job: Job, words: list[str]) -> int:
    arguments = list(_as_keys(job, words))
    flags = [word for word in arguments if word.startswith("-") and word != "-"]
    pairs = [word for word in arguments if word not in flags]
    _check_flags(job, flags)
    if set(HELP) & set(flags):
        sys.stdout.write(help_of(job, every_key=ALL in pairs))
        return 0
    run = _show if "--cfg" in flags else job.run
    if not set(MULTIRUN) & set(flags):
        (config,) = configurations(job, pairs)
        return run(config) or 0
    codes = []
    for label, config in labelled_configurations(job, pairs):
        sys.stdout.flush()
        sys.stderr.write(f"# {label}\n")  # stdout may be read by a program
        codes.append(run(config) or 0)
    return max(codes)


def _as_keys(job: Job, words: list[str]) -> Iterator[str]:
    """The words with `--KEY VALUE` and `--KEY=VALUE` of the job's options as KEY=VALUE."""
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name[2:] not in job.options:
            yield word
        else:
            yield f"{name[2:]}={value if equals else next(waiting, '')}"


def _show(config: Any) -> int:
    sys.stdout.write(OmegaConf.to_yaml(OmegaConf.structured(config)))
    return 0


def _check_flags(job: Job, flags: list[str]) -> None:
    for flag in flags:
        if flag in FLAGS:
            continue
        path = flag.lstrip("-").partition("=")[0].replace("-", "_")
        hint = f"write {path}=VALUE" if path in job.keys else nearest(flag, list(FLAGS))
        raise ConfigError(f"there is no option {flag}; {hint}")


def _guarded(work: Callable[[], int]) -> int:
    """The exit code; an error that is not a bug is one sentence on stderr."""
    try:
        code = work()
        sys.stdout.flush()  # a reader that has closed the pipe is noticed here, not at exit
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if fault_of(error) == "bug" or os.environ.get(TRACE_VARIABLE):
            raise
        sys.stderr.write(f"nightscribe: {one_sentence(error)}\n")
        return BAD_INPUT


def one_sentence(error: BaseException) -> str:
    """On one line, without control characters, which a file name may hold."""
    sentence = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in sentence)


def help_of(job: Job, every_key: bool = False) -> str:
    """The page for one job."""
    values = defaults(job)
    keys = sorted(job.keys.values(), key=_is_of_group)
    shown = [key for key in keys if every_key or _is_common(key, keys)]
    words = ["usage: nightscribe", job.name, *_asked(job, values), "[key=value ...]"]
    lines = [*_usage(words), "", *_paragraph(job.config.__doc__ or ""), ""]
    for key in shown:
        lines += _group(key) if key.is_group else _line(key, values)
    hidden = sum(not key.is_group for key in keys) - sum(not key.is_group for key in shown)
    more = ["", f"{hidden} more keys: nightscribe {job.name} --help all"] if hidden else []
    return "\n".join([*lines, *more, "", *_flags()]) + "\n"


def _usage(words: list[str]) -> list[str]:
    """Broken between words of the command only: `[key=value ...]` is one."""
    kept = " ".join(word.replace(" ", "\xa0") for word in words)
    lines = textwrap.wrap(kept, _line_columns(), subsequent_indent="  ", break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


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
    wrapped = textwrap.wrap(meaning, _line_columns() - KEY_COLUMNS)
    return (first + f"\n{indent}".join(wrapped)).split("\n")


def _line_columns() -> int:
    """As wide as the terminal, but neither too narrow for two columns nor hard to read."""
    columns = shutil.get_terminal_size((MAX_LINE_COLUMNS, 24)).columns
    return max(MIN_LINE_COLUMNS, min(columns, MAX_LINE_COLUMNS))


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _line_columns())


def _flags() -> list[str]:
    return [
        *_columns("  -m, --multirun", "run once for each combination of values such as a.b=1,2"),
        *_columns("  --cfg", "print the configuration and exit"),
        *_columns("  -h, --help [all]", "print this page, or every key"),
    ]


class MissingExtraError(NightscribeError):
    """A command needs an optional package that is not installed."""

    fault = "environment"


@contextmanager
def extras_named(command: str) -> Iterator[None]:
    """Turn a missing module of a known extra into a sentence that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_OF_MODULE:
            raise
        extra = EXTRA_OF_COMMAND.get(command, EXTRA_OF_MODULE[module])
        raise MissingExtraError(
            f'nightscribe {command} needs the extra "{extra}" ({module} is not installed): '
            f"pip install 'nightscribe[{extra}]'"
        ) from None
