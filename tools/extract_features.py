"""Write the features of images, videos or a data set to a file: npz, parquet or lmdb."""

import argparse
import sys
from pathlib import Path

import torch

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_plugin.apis import build_parser, load_config, run_tool
from maskfeat_plugin.apis.feature_extraction import SPLITS, extract_to_file

EXAMPLE = """example:
  python tools/extract_features.py configs/demo/maskfeat_vit-tiny_moving-digits.py \\
      configs/demo/weights/maskfeat_vit-tiny_moving-digits.pth photos/ --out features.npz
  python tools/extract_features.py configs/demo/vit-tiny_moving-digits-class.py \\
      configs/demo/weights/maskfeat_vit-tiny_moving-digits.pth --dataset val --out features.parquet

CONFIG is of pre-training by MaskFeat or of fine-tuning by mmpretrain or mmaction2: a file, or a name of
maskfeat_plugin.apis.list_models(). Interrupted and started again, the work goes on. See docs/inference.md."""


def whole(least: int):
    """A type of arguments: whole numbers from ``least``."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"has to be at least {least}")
        return value

    return number


def main(arguments: list[str] | None = None) -> int:
    """Extract; returns the exit status."""
    parser = build_parser(__doc__, EXAMPLE)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="pre-trained or fine-tuned weights: a path or a URL")
    parser.add_argument("inputs", metavar="INPUTS", nargs="*", help="files, and folders with files at any depth")
    parser.add_argument("--dataset", choices=SPLITS, help="a data set of CONFIG instead of INPUTS")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .npz, .parquet or .lmdb")
    parser.add_argument("--tokens", action="store_true", help="every token instead of one vector a sample")
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="samples at once (%(default)s)")
    parser.add_argument(
        "--workers", type=whole(0), default=0, metavar="N", help="processes that read the samples (none of their own)"
    )
    parser.add_argument(
        "--part-size", type=whole(1), default=1024, metavar="N", help="after so many a part is kept (%(default)s)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    args = parser.parse_args(arguments)

    def work() -> None:
        count = extract_to_file(
            load_config(args.config, args.work_dir, args.cfg_options),
            args.checkpoint,
            args.out,
            args.inputs or None,
            args.dataset,
            args.tokens,
            args.batch_size,
            args.workers,
            args.device,
            args.part_size,
        )
        print(f"features of {count} samples: {args.out}")

    return run_tool(work, args.traceback, hint="the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
