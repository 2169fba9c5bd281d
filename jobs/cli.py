"""The `nightscribe` command: its first word names the job, the rest is the job's own."""

import sys
from difflib import get_close_matches
from importlib import import_module

INTERRUPTED = 130
COMMANDS = {
    "file": "one recording to words on the terminal",
    "transcribe": "an archive to transcripts, on this machine or a cluster",
    "submit": "the same as a job on a cluster",
    "status": "how far a run is",
    "plan": "what an archive holds, and what transcribing it will take",
    "show": "the transcript of one recording of a run",
    "export": "subtitles, text and tables for every transcript of a run",
    "evaluate": "a run held against what was really said",
    "bench": "how fast this is on this machine, beside the reference",
    "doctor": "what this machine or another GPU can do, and what is missing",
    "report": "one HTML file about a run, with sounds to listen to",
    "train": "teach a model a language, a trade or a room of its own",
    "completion": "what bash needs to complete all this",
}


def main() -> None:
    """Run `nightscribe.jobs.NAME.main` with the remaining words as its arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return
    if name not in COMMANDS:
        sys.stderr.write(f"nightscribe: there is no command {name}; {_hint(name)}\n")
        sys.exit(2)
    sys.argv = [f"nightscribe {name}", *sys.argv[2:]]
    try:
        import_module(f"nightscribe.jobs.{name}").main()
    except KeyboardInterrupt:  # while the command was being loaded
        sys.exit(INTERRUPTED)


def usage() -> str:
    lines = [f"  {name:<11} {meaning}" for name, meaning in COMMANDS.items()]
    start, end = "usage: nightscribe COMMAND [key=value ...]", "nightscribe COMMAND --help"
    return "\n".join([start, "", *lines, "", end, ""])


def _hint(name: str) -> str:
    near = get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"


if __name__ == "__main__":
    main()
