"""What every command does around its work: read its words, help, and say errors in one sentence."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import OmegaConf

from nightscribe.jobs.cli import INTERRUPTED
from nightscribe.jobs.config import ConfigError, Job, configurations
from nightscribe.jobs.help import help_of
from nightscribe.jobs.keys import nearest

FLAGS = ("-h", "--help", "-m", "--multirun", "--cfg")
BAD_INPUT = 2
# Bugs keep their stack; with this variable set, so does everything else.
TRACE_VARIABLE = "NIGHTSCRIBE_TRACE"


def run_job(job: Job) -> None:
    """Do what the command line asks of this job and exit."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # It tells of each try to reach the hub; what came of them is said in our sentence.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    sys.exit(_guarded(lambda: _run(job, sys.argv[1:])))


def _run(job: Job, arguments: list[str]) -> int:
    arguments = list(_as_keys(job, arguments))
    flags = [word for word in arguments if word.startswith("-") and word != "-"]
    words = [word for word in arguments if word not in flags]
    _check_flags(job, flags)
    if {"-h", "--help"} & set(flags):
        sys.stdout.write(help_of(job))
        return 0
    chosen = configurations(job, words, multirun=bool({"-m", "--multirun"} & set(flags)))
    run = _show if "--cfg" in flags else job.run
    return max([run(config) or 0 for config in chosen])


def _as_keys(job: Job, arguments: list[str]) -> Iterator[str]:
    """The arguments with `--KEY VALUE` and `--KEY=VALUE` of the job's options as KEY=VALUE."""
    waiting = iter(arguments)
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
    """The exit code; what the user can put right is one sentence on stderr."""
    try:
        code = work()
        sys.stdout.flush()  # here a reader who left is no error
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not is_users(error) or os.environ.get(TRACE_VARIABLE):
            raise
        sys.stderr.write(f"nightscribe: {one_sentence(error)}\n")
        return BAD_INPUT


def is_users(error: BaseException) -> bool:
    """Whether the user can do something about it: wrong words, files, stores or checkpoints."""
    ours = type(error).__module__.partition(".")[0] == "nightscribe"
    return ours or isinstance(error, ValueError | OSError)


def one_sentence(error: BaseException) -> str:
    """On one line; what files and stores are called moves nobody's cursor."""
    sentence = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in sentence)
