"""Train a config: pre-training or fine-tuning."""

import argparse
import sys

from maskfeat_cli.arguments import build_parser
from maskfeat_cli.given_files import missing_config, missing_start, refuse

EXAMPLE = """examples:
  python tools/train.py configs/pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py
  python tools/train.py configs/classification/vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py \\
      --cfg-options model.backbone.init_cfg.checkpoint=in1k_VIT_B_MaskFeat_PT_epoch_01600.pth

The learning rate follows the batch size (auto_scale_lr in the config). On several GPUs, use tools/dist_train.sh."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue an interrupted training from CHECKPOINT, or from the last checkpoint in the work directory",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train and return the exit status."""
    args = parse_args(arguments)
    start = None if args.resume == "auto" else args.resume
    if refuse(missing_config(args.config), missing_start(start)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.running.command_line import run_tool
    from maskfeat_plugin.running.training import build_trainer, train

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options, args.launcher, args.amp, args.resume)
        train(build_trainer(cfg))

    return run_tool(work, args.traceback, hint="continue from the last checkpoint with --resume")


if __name__ == "__main__":
    sys.exit(main())
