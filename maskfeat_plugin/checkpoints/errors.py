"""What can be wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and what would be right."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that holds more than weights and was refused before any of it ran."""
