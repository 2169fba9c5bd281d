"""The `nightscribe` command: its first word names the job, the rest are the job's own."""

import sys
from difflib import get_close_matches
from importlib import import_module

from nightscribe.jobs import BAD_INPUT, INTERRUPTED

COMMANDS = {
    "file": "transcribe one recording to the terminal",
    "transcribe": "transcribe an archive, on this machine or a cluster",
    "submit": "run transcribe as a job on a cluster",
    "status": "show the progress of a run",
    "history": "list the nights of a run: what each did and cost",
    "plan": "survey an archive and estimate time and cost",
    "show": "print one transcript of a run",
    "diff": "show the words that the last revision changed",
    "correct": "store transcripts that people corrected",
    "export": "write the transcripts of a run as subtitles, text or tables",
    "cast": "group and name the voices of a run with speakers=on",
    "evaluate": "score a run against reference transcripts",
    "bench": "measure the speed of this machine for a model",
    "live": "show the words of a file or a microphone, by a server",
    "speak": "speak a text with a text-to-speech model",
    "synthesize": "speak every text of a manifest, on this machine or a cluster",
    "serve": "live speech-to-text over sockets",
    "doctor": "check this machine, or what another GPU could do",
    "report": "write one HTML report of a run, with playable audio",
    "train": "fine-tune a model",
    "completion": "print the bash completion script",
}


def main() -> None:
    """Run the job that the first word names with the remaining words as its arguments."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(usage())
    elif name == "--version":
        sys.stdout.write(f"nightscribe {_version()}\n")
    elif name not in COMMANDS:
        sys.stderr.write(f"nightscribe: there is no command {name}; {_hint(name)}\n")
        sys.exit(BAD_INPUT)
    else:
        _run(name, words)


def usage() -> str:
    lines = [f"  {name:<11} {meaning}" for name, meaning in COMMANDS.items()]
    start = "usage: nightscribe COMMAND [key=value ...]"
    end = ["nightscribe COMMAND --help", "nightscribe --version"]
    return "\n".join([start, "", *lines, "", *end, ""])


def _run(name: str, words: list[str]) -> None:
    try:
        from nightscribe.jobs.shell.command import run_job  # hydra, which the help can do without

        run_job(name, lambda: import_module(f"nightscribe.jobs.{name}").JOB, words)
    except KeyboardInterrupt:  # while modules were being imported
        sys.exit(INTERRUPTED)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nightscribe")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"


def _hint(name: str) -> str:
    near = get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
