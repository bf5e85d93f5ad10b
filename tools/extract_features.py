"""Write the features of images, videos or a data set to a file: npz, parquet or lmdb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maskfeat_cli.arguments import build_parser, positive, positive_float, whole
from maskfeat_cli.given_files import missing_checkpoint, missing_config, missing_input, refuse

if TYPE_CHECKING:
    from maskfeat_plugin.apis.features.extraction import Extraction

EXAMPLE = """example:
  python tools/extract_features.py configs/demo/maskfeat_vit-tiny_moving-digits.py \\
      configs/demo/weights/maskfeat_vit-tiny_moving-digits.pth photos/ --out features.npz
  python tools/extract_features.py configs/demo/vit-tiny_moving-digits-class.py \\
      configs/demo/weights/maskfeat_vit-tiny_moving-digits.pth --dataset val --out features.parquet

CONFIG is of pre-training by MaskFeat or of fine-tuning by mmpretrain or mmaction2: a file, or a name of
maskfeat_plugin.apis.list_models(). Files that cannot be read are left out and listed. Interrupted and started again,
the work goes on. Several processes share it: torchrun and --launcher pytorch, or --shard. See docs/inference.md."""


# Those of maskfeat_plugin.apis.features.extraction
SPLITS, PRECISIONS, TYPES = ("train", "val", "test"), ("bfloat16", "float16"), ("float32", "float16")


def shard(text: str) -> tuple[int, int]:
    """A type of arguments: I/N, a share of the work."""
    index, _, count = text.partition("/")
    if not 0 <= int(index) < int(count):
        raise argparse.ArgumentTypeError("has to be 0/N to N-1/N")
    return int(index), int(count)


def describe_extraction(done: Extraction, out: Path, rows: str) -> str:
    """Return the lines that are printed at the end."""
    if done.missing:
        return f"{done.missing} samples are not done yet. The process that does the last of them writes {out}"
    if done.rows is None:
        return f"{out} is whole, or another process is writing it"
    bad = f"\n{done.bad_files} files cannot be read: {done.bad_list}" if done.bad_files else ""
    return f"features of {done.rows} {rows}: {out}{bad}"


def main(arguments: list[str] | None = None) -> int:
    """Extract; returns the exit status."""
    parser = build_parser(__doc__, EXAMPLE)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="pre-trained or fine-tuned weights: a path or a URL")
    parser.add_argument("inputs", metavar="INPUTS", nargs="*", help="files, folders, manifests of maskfeat index")
    parser.add_argument("--dataset", choices=SPLITS, help="a data set of CONFIG instead of INPUTS")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .npz, .parquet or .lmdb")
    parser.add_argument(
        "--every",
        type=positive_float,
        metavar="SECONDS",
        help="a row for each window of a video, with its start and end",
    )
    parser.add_argument("--tokens", action="store_true", help="every token instead of one vector a sample")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="samples at once (%(default)s)")
    parser.add_argument(
        "--workers",
        type=whole,
        default=1,
        metavar="N",
        help="processes that read the samples; with 0 a file that crashes its decoder ends the work (%(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_float,
        default=120.0,
        metavar="SECONDS",
        help="a file that is not read in this time is left out and listed as bad (%(default)g)",
    )
    parser.add_argument(
        "--part-size", type=positive, metavar="N", help="after so many files a part is kept (1024; with --every 16)"
    )
    parser.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="do the I-th of N shares, counted from 0"
    )
    parser.add_argument(
        "--amp", nargs="?", const="bfloat16", choices=PRECISIONS, help="compute in mixed precision (bfloat16)"
    )
    parser.add_argument("--dtype", choices=TYPES, default="float32", help="of the features in FILE (%(default)s)")
    parser.add_argument("--device", help="cuda or cpu (cuda, if there is a GPU)")
    args = parser.parse_args(arguments)
    wrong = None
    if bool(args.inputs) == (args.dataset is not None):
        wrong = "give either files or the data set to extract the features of."
    files = (missing_config(args.config), missing_checkpoint(args.checkpoint), *map(missing_input, args.inputs))
    if refuse(wrong, *files):
        return 1

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.apis.features.extraction import extract_features
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.running.command_line import chosen_device, run_tool
    from maskfeat_plugin.running.distributed import launched_device, launched_share

    def work() -> None:
        rank, count = launched_share(args.launcher)
        index, shards = args.shard
        done = extract_features(
            load_config(args.config, args.work_dir, args.cfg_options),
            args.checkpoint,
            args.out,
            args.inputs or None,
            args.dataset,
            args.tokens,
            args.batch_size,
            args.workers,
            launched_device(args.launcher, chosen_device(args.device)),
            args.part_size,
            args.timeout,
            (index * count + rank, shards * count),
            args.amp,
            args.dtype,
            args.every,
        )
        print(describe_extraction(done, args.out, "windows" if args.every else "samples"))

    return run_tool(work, args.traceback, hint="the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
