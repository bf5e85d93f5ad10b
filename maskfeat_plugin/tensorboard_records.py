"""Writer of TensorBoard records that are complete or absent."""

import os
from contextlib import suppress
from pathlib import Path

from tensorboard.summary.writer import event_file_writer

from .curve_files import say_lost


class WholeRecordWriter(event_file_writer.RecordWriter):
    """TensorBoard's record writer, which drops a record that cannot be written and logs a warning.

    In the parent class the error ends the writing thread, and each later curve of the training fails.
    """

    def write(self, data: bytes) -> None:
        """Write a whole record, or nothing."""
        # The file object is TensorBoard's own, or TensorFlow's if TensorFlow is installed
        path = Path(os.fsdecode(getattr(self._writer, "filename", None) or self._writer.name))
        length = path.stat().st_size if path.exists() else 0
        try:
            super().write(data)
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, length)
            say_lost(path.parent, error)
