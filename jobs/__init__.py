"""The commands: one file each, and the parts that they share in `shell`."""

# Exit codes. 1 means that a run is unfinished, or that more recordings failed than are allowed.
BAD_INPUT = 2
INTERRUPTED = 130
