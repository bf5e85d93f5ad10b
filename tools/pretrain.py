"""Pre-train on a folder of images or videos. No labels and no config are needed.

The command prints which files it uses, measures the time of a step, and trains. It writes its config to the work
directory. You can edit this config and train it with `maskfeat train`.
"""

import argparse
import sys

from maskfeat_cli.folder_commands import build_folder_parser, read_folder_arguments
from maskfeat_cli.given_files import missing_checkpoint, refuse

EXAMPLE = """examples:
  maskfeat pretrain my_images
  maskfeat pretrain my_videos --model mvit-small --hours 8 --work-dir work_dirs/mine
  maskfeat pretrain my_images --model vit-base --from vit_base_patch16_224.safetensors

Models for images: vit-tiny, vit-base, vit-large. Models for videos: mvit-tiny, mvit-small, mvit-large.
The default is the tiny model, or vit-base and mvit-small on a GPU, and 1000 steps."""

STEPS = 1000


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_folder_parser(__doc__, EXAMPLE)
    parser.add_argument("--model", metavar="NAME", help="name of the model, see below")
    parser.add_argument(
        "--from",
        dest="weights",
        metavar="FILE",
        help="checkpoint of the same architecture to start from, with a tenth of the usual learning rate",
    )
    return read_folder_arguments(parser, arguments, "pretrain")


def main(arguments: list[str] | None = None) -> int:
    """Pre-train and return the exit status."""
    args = parse_args(arguments)
    if refuse(missing_checkpoint(args.weights)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.apis.folder_training import (
        Settings,
        look_into,
        pretraining_config,
        resume_training,
        run_training,
    )
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        if args.resume:
            resume_training(args.work_dir)
        else:
            contents = look_into(args.folder, args.kind)
            print(contents.describe(), flush=True)
            cfg = pretraining_config(contents, Settings.of(args))
            run_training(cfg, len(contents.files), args.steps or STEPS, args.hours, args.dry_run)
        if not args.dry_run:
            print(f"\nPictures of the predictions: {args.work_dir}/*/vis_data/vis_image")
            print(f"Write a page about it:       maskfeat report {args.work_dir}")
            print(f"Train a classifier from it:  maskfeat finetune FOLDER_WITH_CLASSES --from {args.work_dir}")

    return run_tool(work, args.traceback, hint="continue from the last checkpoint with --resume")


if __name__ == "__main__":
    sys.exit(main())
