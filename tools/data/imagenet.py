"""Prepare ImageNet-1k from its official downloads: class folders, and lists of the readable images with labels."""

import argparse
import sys

from maskfeat_cli.arguments import build_data_parser

EXAMPLE = """example:
  python tools/data/imagenet.py downloads/imagenet --root data/imagenet

SOURCE holds ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or their folders train and val. The labels of the
validation images come from ILSVRC2012_devkit_t12.tar.gz or val.txt. Nothing is downloaded. See docs/data.md."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return build_data_parser(__doc__, EXAMPLE, root="data/imagenet").parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data and return the exit status."""
    args = parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.preparation import prepare_imagenet, run_preparation

    return run_preparation(prepare_imagenet, args)


if __name__ == "__main__":
    sys.exit(main())
