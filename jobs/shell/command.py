"""What every command does around its work: parse its words, print help, report errors."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from omegaconf import OmegaConf

from nightscribe.errors import fault_of
from nightscribe.jobs import BAD_INPUT, INTERRUPTED
from nightscribe.jobs.shell.config import ConfigError, Job, configurations, labelled_configurations
from nightscribe.jobs.shell.extras import extras_named
from nightscribe.jobs.shell.help import help_of
from nightscribe.jobs.shell.keys import nearest

HELP = ("-h", "--help")
MULTIRUN = ("-m", "--multirun")
FLAGS = (*HELP, *MULTIRUN, "--cfg")
ALL = "all"
# Bugs keep their traceback; with this variable set, so does every other error.
TRACE_VARIABLE = "NIGHTSCRIBE_TRACE"


def run_job(name: str, load: Callable[[], Job], words: list[str]) -> NoReturn:
    """Load the job of that name, do what the words ask of it, and exit."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # It logs every attempt to reach the hub; our own sentence says what came of them.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)

    def work() -> int:
        with extras_named(name):
            return _run(load().chosen_by(words), words)

    sys.exit(_guarded(work))


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
