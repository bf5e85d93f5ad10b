"""Errors of checkpoints."""


class CheckpointError(ValueError):
    """Error for a checkpoint that cannot be used. The message names the file and the remedy."""


class UnsafeCheckpointError(CheckpointError):
    """Error for a checkpoint that holds more than weights. It is refused before any code in it can run."""
