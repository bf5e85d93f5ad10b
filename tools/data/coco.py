"""Prepare COCO 2017 from its official downloads: folders of images, and annotations of the readable images."""

import argparse
import sys

from maskfeat_cli.arguments import build_data_parser

EXAMPLE = """example:
  python tools/data/coco.py downloads/coco --root data/coco

SOURCE holds train2017.zip, val2017.zip and annotations_trainval2017.zip, or their content. Nothing is downloaded. See
docs/data.md."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return build_data_parser(__doc__, EXAMPLE, root="data/coco").parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data and return the exit status."""
    args = parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.preparation import prepare_coco, run_preparation

    return run_preparation(prepare_coco, args)


if __name__ == "__main__":
    sys.exit(main())
