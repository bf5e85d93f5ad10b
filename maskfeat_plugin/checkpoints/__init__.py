"""Checkpoints of this package and of other projects: read them safely, rename, resize, convert and write them."""

from maskfeat_plugin.checkpoints.errors import CheckpointError, UnsafeCheckpointError
from maskfeat_plugin.checkpoints.exporting import export_checkpoint
from maskfeat_plugin.checkpoints.fitting import LoadReport, load_into
from maskfeat_plugin.checkpoints.formats import FORMATS, Format
from maskfeat_plugin.checkpoints.initializer import PretrainedInit
from maskfeat_plugin.checkpoints.publishing import remove_unfinished, write_last
from maskfeat_plugin.checkpoints.reader import (
    Checkpoint,
    from_state_dict,
    load_file,
    local_file,
    read_checkpoint,
    read_state,
)
from maskfeat_plugin.checkpoints.sharded import (
    check_shards,
    is_sharded,
    map_values,
    read_shards,
    shard_files,
    write_shards,
)
from maskfeat_plugin.checkpoints.table import format_rows
from maskfeat_plugin.checkpoints.whole import check_whole, newest_whole
from maskfeat_plugin.checkpoints.whole_network import load_network
from maskfeat_plugin.checkpoints.writer import TARGETS, Conversion, Row, convert, write_checkpoint
from maskfeat_plugin.files import publish, unfinished_path

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
    "check_shards",
    "check_whole",
    "convert",
    "export_checkpoint",
    "format_rows",
    "from_state_dict",
    "is_sharded",
    "load_file",
    "load_into",
    "load_network",
    "local_file",
    "map_values",
    "newest_whole",
    "publish",
    "read_checkpoint",
    "read_shards",
    "read_state",
    "remove_unfinished",
    "shard_files",
    "unfinished_path",
    "write_checkpoint",
    "write_last",
    "write_shards",
]
