"""Evaluate the features of a checkpoint by k-NN classification of labelled data. Nothing is trained.

The labelled data come from a folder with a folder for each class, as for `maskfeat finetune`, or from a config.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maskfeat_cli.arguments import build_parser, positive
from maskfeat_cli.given_files import missing_checkpoint, missing_config, missing_folder, missing_run, refuse

if TYPE_CHECKING:
    from mmengine.config import Config

EXAMPLE = """examples:
  maskfeat knn my_photos --from work_dirs/my_images_pretrain
  python tools/knn.py configs/classification/vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py \\
      work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth --k 10 20

CONFIG is a config that fine-tunes the backbone, or a folder with a folder for each class. See docs/knn.md."""


def main(arguments: list[str] | None = None) -> int:
    """Evaluate and return the exit status."""
    parser = build_parser(__doc__, EXAMPLE, launcher=False)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", help="pre-trained or fine-tuned weights: a path or a URL"
    )
    parser.add_argument(
        "--from", dest="run", metavar="RUN", help="work directory of the pre-training, if CONFIG is a folder"
    )
    parser.add_argument(
        "--k", type=positive, nargs="+", default=[10, 20], help="numbers of neighbours (default: 10 20)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.07,
        help="a smaller value gives near neighbours more weight (default: 0.07)",
    )
    parser.add_argument("--device", help="cuda or cpu (default: cuda if there is a GPU)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="file to write the accuracies to")
    args = parser.parse_args(arguments)
    wrong = None
    if not args.run and args.checkpoint is None:
        wrong = "CHECKPOINT is missing. Give one after the config, or a folder and --from RUN."
    config = missing_folder(args.config) if args.run else missing_config(args.config)
    if refuse(wrong, config, missing_run(args.run), missing_checkpoint(args.checkpoint)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.apis.knn_evaluation import evaluate_knn
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.files import writing
    from maskfeat_plugin.running.command_line import chosen_device, run_tool

    def work() -> None:
        if args.run:
            cfg, checkpoint = _folder_config(args)
        else:
            cfg, checkpoint = load_config(args.config, args.work_dir, args.cfg_options), args.checkpoint
        metrics = evaluate_knn(cfg, checkpoint, args.k, args.temperature, chosen_device(args.device))
        for name, value in metrics.items():
            print(f"{name:>12}  {value:6.2f} %")
        if args.out:
            with writing(args.out) as unfinished:
                unfinished.write_text(json.dumps(metrics, indent=2) + "\n")

    return run_tool(work, args.traceback)


def _folder_config(args: argparse.Namespace) -> tuple[Config, str]:
    """Build the config of a folder with classes; return the config and the checkpoint of the run."""
    from maskfeat_plugin.apis.folder_training import Settings, find_classes, finetuning_config

    labelled = find_classes(args.config)
    print(labelled.describe(), flush=True)
    work_dir = Path(args.work_dir or Path("work_dirs", f"{Path(args.config).resolve().name}_knn"))
    cfg = finetuning_config(labelled, args.run, Settings(work_dir))
    cfg.merge_from_dict(args.cfg_options or {})
    return cfg, args.checkpoint or cfg.model.backbone.init_cfg.checkpoint


if __name__ == "__main__":
    sys.exit(main())
