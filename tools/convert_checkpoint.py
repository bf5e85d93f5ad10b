"""Convert a checkpoint between PySlowFast, OpenMMLab, timm, transformers, torchvision and maskfeat_plugin."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.given_files import missing_checkpoint, missing_config, refuse

EXAMPLE = """example:
  python tools/convert_checkpoint.py k400_MVIT_S_MaskFeat_PT_epoch_00300.pyth mvit_s.pth --to maskfeat
  python tools/convert_checkpoint.py in1k_VIT_B_MaskFeat_PT_epoch_01600.pth vit_b/model.safetensors --to hf

The command recognises the format of SRC by its keys. Loading is safe: it refuses files that hold more than weights.
A model card is written beside DST, with .md added to the name.
A config needs no conversion: it can load the original checkpoint, see docs/checkpoints.md."""

TARGETS = (
    "maskfeat",
    "mmpretrain",
    "mmaction2",
    "slowfast",
    "timm",
    "hf",
    "torchvision",
)  # the same as in maskfeat_plugin.checkpoints


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", metavar="SRC", help="checkpoint to read: a path or a URL")
    parser.add_argument(
        "dst", metavar="DST", type=Path, help="checkpoint to write; .safetensors makes a file without pickle"
    )
    parser.add_argument(
        "--to",
        choices=TARGETS,
        required=True,
        help="format to write; for mmpretrain and mmaction2 the plain backbone",
    )
    parser.add_argument("--config", help="config of the model, from which the number of heads and the model card come")
    parser.add_argument("--dry-run", action="store_true", help="print the table of names and write nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Convert a checkpoint, print the table of names and a summary, and return the exit status."""
    args = parse_args(arguments)
    if refuse(missing_checkpoint(args.src), missing_config(args.config)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.checkpoints import (
        CheckpointError,
        convert,
        export_checkpoint,
        format_rows,
        local_file,
        read_checkpoint,
    )
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.errors import ConfigError

    try:
        config = load_config(args.config) if args.config else None
        checkpoint = read_checkpoint(args.src)
        if args.dry_run:
            conversion = convert(checkpoint, args.to)
        else:
            conversion = export_checkpoint(checkpoint, args.dst, args.to, local_file(args.src), config)
    except (CheckpointError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.src}: {checkpoint.format.title}\n")
    print(format_rows(conversion.rows))
    left_out = sum(row.target is None for row in conversion.rows)
    done = "would be written (dry run)" if args.dry_run else f"written to {args.dst}"
    print(f"\n{len(conversion.state)} tensors {done}, {left_out} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
