"""How good are the features of a checkpoint? k-NN classification of labelled data, without any training."""

import argparse
import json
import sys
from pathlib import Path

import torch

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_plugin.apis import load_config
from maskfeat_plugin.apis.knn_evaluation import evaluate_knn
from maskfeat_plugin.files import writing
from maskfeat_plugin.running.command_line import build_parser, run_tool

EXAMPLE = """example:
  python tools/knn.py configs/classification/vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py \\
      work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth --k 10 20

CONFIG is that of fine-tuning the backbone: it has the labelled data. See docs/knn.md."""


def positive(text: str) -> int:
    """A number of neighbours."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; returns the exit status."""
    parser = build_parser(__doc__, EXAMPLE, launcher=False)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="pre-trained or fine-tuned weights: a path or a URL")
    parser.add_argument("--k", type=positive, nargs="+", default=[10, 20], help="numbers of neighbours (10 20)")
    parser.add_argument(
        "--temperature", type=float, default=0.07, help="the smaller, the more the nearest count (0.07)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--out", type=Path, metavar="JSON", help="file to write the accuracies to")
    args = parser.parse_args(arguments)

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options)
        metrics = evaluate_knn(cfg, args.checkpoint, args.k, args.temperature, args.device)
        for name, value in metrics.items():
            print(f"{name:>12}  {value:6.2f} %")
        if args.out:
            with writing(args.out) as unfinished:
                unfinished.write_text(json.dumps(metrics, indent=2) + "\n")

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
