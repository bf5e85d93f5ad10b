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

CONFIG pre-trains with MaskFeat, or fine-tunes with mmpretrain or mmaction2. Unreadable files are skipped and listed.
Run the command again to continue an interrupted extraction. Several processes can share the work: start them with
torchrun and --launcher pytorch, or with --shard. See docs/inference.md."""


# The same as in maskfeat_plugin.apis.features.extraction
SPLITS, PRECISIONS, TYPES = ("train", "val", "test"), ("bfloat16", "float16"), ("float32", "float16")


def shard(text: str) -> tuple[int, int]:
    """Read I/N, a share of the work."""
    index, _, count = text.partition("/")
    if not 0 <= int(index) < int(count):
        raise argparse.ArgumentTypeError("has to be 0/N to N-1/N")
    return int(index), int(count)


def describe_extraction(done: Extraction, out: Path, rows: str) -> str:
    """Describe the result of this process."""
    if done.missing:
        return f"{done.missing} samples are left to other processes. The last process to finish writes {out}"
    if done.rows is None:
        return f"{out} is complete, or another process is writing it"
    bad = f"\n{done.bad_files} files cannot be read: {done.bad_list}" if done.bad_files else ""
    return f"features of {done.rows} {rows}: {out}{bad}"


def main(arguments: list[str] | None = None) -> int:
    """Extract the features and return the exit status."""
    parser = build_parser(__doc__, EXAMPLE)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="pre-trained or fine-tuned weights: a path or a URL")
    parser.add_argument("inputs", metavar="INPUTS", nargs="*", help="files, folders, or manifests of maskfeat index")
    parser.add_argument("--dataset", choices=SPLITS, help="use a data set of CONFIG instead of INPUTS")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file to write: .npz, .parquet or .lmdb"
    )
    parser.add_argument(
        "--every",
        type=positive_float,
        metavar="SECONDS",
        help="write a row for each window of SECONDS of a video, with its start and end",
    )
    parser.add_argument("--tokens", action="store_true", help="write every token instead of one vector per sample")
    parser.add_argument(
        "--batch-size", type=positive, default=32, metavar="N", help="batch size (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=whole,
        default=1,
        metavar="N",
        help="processes that read samples (default: %(default)s); with 0, a crash of the decoder ends the command",
    )
    parser.add_argument(
        "--timeout",
        type=positive_float,
        default=120.0,
        metavar="SECONDS",
        help="longest time to read a file; slower files are skipped and listed as bad (default: %(default)g)",
    )
    parser.add_argument(
        "--part-size",
        type=positive,
        metavar="N",
        help="save the features after every N files (default: 1024; 16 with --every)",
    )
    parser.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="process only share I of N, counted from 0"
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const="bfloat16",
        choices=PRECISIONS,
        help="compute in mixed precision (bfloat16 or the given type)",
    )
    parser.add_argument("--dtype", choices=TYPES, default="float32", help="type in FILE (default: %(default)s)")
    parser.add_argument("--device", help="cuda or cpu (default: cuda if there is a GPU)")
    args = parser.parse_args(arguments)
    wrong = None
    if bool(args.inputs) == (args.dataset is not None):
        wrong = "give either INPUTS or --dataset (one of the two)."
    files = (missing_config(args.config), missing_checkpoint(args.checkpoint), *map(missing_input, args.inputs))
    if refuse(wrong, *files):
        return 1

    # imported after the arguments were checked: these imports take seconds
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

    return run_tool(work, args.traceback, hint="run the same command again to continue")


if __name__ == "__main__":
    sys.exit(main())
