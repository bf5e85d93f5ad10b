"""Checkpoints of other projects: recognised, renamed, resized, read safely and written."""

from maskfeat_plugin.writing import publish, unfinished_path

from .errors import CheckpointError, UnsafeCheckpointError
from .fitting import LoadReport, load_into
from .formats import FORMATS, Format
from .initializer import PretrainedInit
from .publishing import remove_unfinished, write_last
from .reader import Checkpoint, from_state_dict, load_file, local_file, read_checkpoint
from .sharded import is_sharded, read_shards, shard_files, write_shards
from .table import format_rows
from .whole import check_whole, newest_whole
from .writer import TARGETS, Conversion, Row, convert, write_checkpoint

__all__ = [
    "FORMATS",
    "TARGETS",
    "Checkpoint",
    "CheckpointError",
    "Conversion",
    "Format",
    "LoadReport",
    "PretrainedInit",
    "Row",
    "UnsafeCheckpointError",
    "check_whole",
    "convert",
    "format_rows",
    "from_state_dict",
    "is_sharded",
    "load_file",
    "load_into",
    "local_file",
    "newest_whole",
    "publish",
    "read_checkpoint",
    "read_shards",
    "remove_unfinished",
    "shard_files",
    "unfinished_path",
    "write_checkpoint",
    "write_last",
    "write_shards",
]
