"""Records of TensorBoard that are whole or not there."""

import os
from contextlib import suppress
from pathlib import Path

from tensorboard.summary.writer import event_file_writer

from .curve_files import say_lost


class WholeRecordWriter(event_file_writer.RecordWriter):
    """TensorBoard's writer of records, which loses one that cannot be written and says so.

    The parent's error ends the thread that writes, and each later curve of the training fails.
    """

    def write(self, data: bytes) -> None:
        """Write a record, all of it or nothing."""
        # TensorBoard's own file, or TensorFlow's where that is installed
        path = Path(os.fsdecode(getattr(self._writer, "filename", None) or self._writer.name))
        length = path.stat().st_size if path.exists() else 0
        try:
            super().write(data)
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, length)
            say_lost(path.parent, error)
