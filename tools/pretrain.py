"""Pre-train on a folder of images or videos. No labels and no config are needed.

The command prints which files it uses, measures the time of a step, and trains. It writes the config that it used to
the work directory; `maskfeat train` takes this config, changed or not.
"""

import argparse
import sys

from maskfeat_cli.folder_commands import build_folder_parser, read_folder_arguments

EXAMPLE = """examples:
  maskfeat pretrain my_images
  maskfeat pretrain my_videos --model mvit-small --hours 8 --work-dir work_dirs/mine

Models for images: vit-tiny, vit-base, vit-large. Models for videos: mvit-tiny, mvit-small, mvit-large.
The default is the tiny one, or with a GPU vit-base and mvit-small, and 1000 steps."""

STEPS = 1000


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_folder_parser(__doc__, EXAMPLE)
    parser.add_argument("--model", metavar="NAME", help="model and its size, see below")
    return read_folder_arguments(parser, arguments, "pretrain")


def main(arguments: list[str] | None = None) -> int:
    """Pre-train; returns the exit status."""
    args = parse_args(arguments)

    # not before the arguments are known to be right: these imports take seconds
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
            print(f"A page on the training:      maskfeat report {args.work_dir}")
            print(f"A classifier from it:        maskfeat finetune FOLDER_WITH_CLASSES --from {args.work_dir}")

    return run_tool(work, args.traceback, hint="--resume goes on from the last checkpoint")


if __name__ == "__main__":
    sys.exit(main())
