"""Prepare AVA v2.2 from its official downloads: raw frames, and annotations of the videos that have them."""

import argparse
import sys
from functools import partial

from maskfeat_cli.arguments import build_data_parser, positive

EXAMPLE = """example:
  python tools/data/ava.py downloads/ava --root data/ava

SOURCE has the videos, ava_v2.2.zip or what it holds, and FAIR's proposals, ava_dense_proposals_*.pkl. Frames are
extracted with decord, those of seconds 900 to 1800, 30 a second. Nothing is downloaded. See docs/data.md."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_data_parser(__doc__, EXAMPLE, root="data/ava")
    parser.add_argument(
        "--short-side",
        type=positive,
        metavar="PIXELS",
        help="make frames smaller, to this short side (as large as the videos)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data; returns the exit status."""
    args = parse_args(arguments)

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.preparation import prepare_ava, run_preparation

    return run_preparation(partial(prepare_ava, short_side=args.short_side), args)


if __name__ == "__main__":
    sys.exit(main())
