"""The terminal, where names of files are names, whatever brackets and colons they hold."""

from rich.console import Console


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Writes texts as they are; with `soft_wrap` the terminal breaks the lines, not we."""
    return Console(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def clock(duration_s: float) -> str:
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
