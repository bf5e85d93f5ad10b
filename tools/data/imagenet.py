"""Prepare ImageNet-1k from its official downloads: class folders, and lists with the labels of what can be read."""

import argparse
import sys

from maskfeat_cli.arguments import build_data_parser

EXAMPLE = """example:
  python tools/data/imagenet.py downloads/imagenet --root data/imagenet

SOURCE has ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or their folders train and val, and for the labels of
validation ILSVRC2012_devkit_t12.tar.gz or val.txt. Nothing is downloaded. See docs/data.md."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return build_data_parser(__doc__, EXAMPLE, root="data/imagenet").parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data; returns the exit status."""
    args = parse_args(arguments)

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.preparation import prepare_imagenet, run_preparation

    return run_preparation(prepare_imagenet, args)


if __name__ == "__main__":
    sys.exit(main())
