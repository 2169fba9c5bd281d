"""The error for everything that is wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be found or read, or that contradicts itself."""
