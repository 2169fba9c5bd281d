"""What is wrong with a checkpoint, in one sentence for its user."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be found, read or believed."""
