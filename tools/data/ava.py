"""Prepare AVA v2.2 from its official downloads: extract frames, and write the annotations of the extracted videos."""

import argparse
import sys
from functools import partial

from maskfeat_cli.arguments import build_data_parser, positive

EXAMPLE = """example:
  python tools/data/ava.py downloads/ava --root data/ava

SOURCE holds the videos, ava_v2.2.zip or its content, and FAIR's proposals, ava_dense_proposals_*.pkl. decord extracts
the frames of seconds 900 to 1800, 30 per second. Nothing is downloaded. See docs/data.md."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_data_parser(__doc__, EXAMPLE, root="data/ava")
    parser.add_argument(
        "--short-side",
        type=positive,
        metavar="PIXELS",
        help="resize frames to this short side (default: the size of the videos)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data and return the exit status."""
    args = parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.preparation import prepare_ava, run_preparation

    return run_preparation(partial(prepare_ava, short_side=args.short_side), args)


if __name__ == "__main__":
    sys.exit(main())
