"""Which extra of the package installs a module that is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from nightscribe.errors import NightscribeError

EXTRA_OF_MODULE = {
    "google": "train",  # protobuf
    "jinja2": "report",
    "jiwer": "evaluate",
    "matplotlib": "train",
    "sacrebleu": "evaluate",
    "whisper_normalizer": "evaluate",
}
# An extra installs all that its command needs, although modules belong to several.
EXTRA_OF_COMMAND = {"train": "train"}


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
