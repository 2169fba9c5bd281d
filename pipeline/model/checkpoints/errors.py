"""What is wrong with a checkpoint, in one sentence for its user."""

from nightscribe.errors import NightscribeError


class CheckpointError(NightscribeError, ValueError):
    """A checkpoint that cannot be found, read or believed."""
