"""Fine-tune a pre-trained model to classify images or videos. Each class has its own folder.

FOLDER holds FOLDER/CLASS/..., and a fifth of each class is held out for validation; or FOLDER holds
FOLDER/train/CLASS/... and FOLDER/val/CLASS/... The command writes its config to the work directory. You can edit this
config and train it with `maskfeat train`.
"""

import argparse
import sys

from maskfeat_cli.arguments import share
from maskfeat_cli.folder_commands import build_folder_parser, read_folder_arguments
from maskfeat_cli.given_files import missing_run, refuse

EXAMPLE = """examples:
  maskfeat finetune my_photos --from work_dirs/my_images_pretrain
  maskfeat finetune my_clips --from work_dirs/my_videos_pretrain --no-flip --steps 500

Images go through a ViT, or through an MViT that was pre-trained on videos. Videos go through an MViT.
The default is 500 steps."""

STEPS = 500


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_folder_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "--from",
        dest="run",
        required=True,
        metavar="RUN",
        help="work directory of the pre-training, or the name of a shipped model",
    )
    parser.add_argument(
        "--val-share",
        type=share,
        default=0.2,
        metavar="SHARE",
        help="share of each class for validation (default: 0.2)",
    )
    parser.set_defaults(model=None, weights=None)
    return read_folder_arguments(parser, arguments, "finetune")


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune and return the exit status."""
    args = parse_args(arguments)
    if refuse(missing_run(args.run)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.apis.folder_training import (
        Settings,
        find_classes,
        finetuning_config,
        resume_training,
        run_training,
    )
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        if args.resume:
            resume_training(args.work_dir)
        else:
            labelled = find_classes(args.folder, args.val_share, args.kind)
            print(labelled.describe(), flush=True)
            cfg = finetuning_config(labelled, args.run, Settings.of(args))
            run_training(cfg, len(labelled.train), args.steps or STEPS, args.hours, args.dry_run)
        if not args.dry_run:
            print(f"\nTo classify new files: maskfeat predict FILE ... --from {args.work_dir}")

    return run_tool(work, args.traceback, hint="continue from the last checkpoint with --resume")


if __name__ == "__main__":
    sys.exit(main())
