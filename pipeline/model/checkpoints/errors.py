"""The error for everything that is wrong with a checkpoint."""

from nightscribe.errors import NightscribeError


class CheckpointError(NightscribeError, ValueError):
    """A checkpoint that cannot be found or read, or that contradicts itself."""
