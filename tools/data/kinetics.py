"""Prepare Kinetics-400, -600 or -700 from its official downloads: videos, and lists of the readable videos."""

import argparse
import sys
from functools import partial
from pathlib import Path

from maskfeat_cli.arguments import build_data_parser

EXAMPLE = """example:
  python tools/data/kinetics.py downloads/k400 --version 400 --root data/kinetics400

SOURCE holds the annotations, train.csv and val.csv, and CVDF's .tar.gz archives or the videos, named
YOUTUBEID_000001_000011.mp4, in any folders. Nothing is downloaded. See docs/data.md."""

VERSIONS = (400, 600, 700)  # the same as in maskfeat_plugin.preparation.kinetics


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_data_parser(__doc__, EXAMPLE, root="data/kinetics and VERSION")
    parser.set_defaults(root=None)
    parser.add_argument("--version", type=int, choices=VERSIONS, required=True, help="number of classes")
    args = parser.parse_args(arguments)
    args.root = args.root or Path(f"data/kinetics{args.version}")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data and return the exit status."""
    args = parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.preparation import prepare_kinetics, run_preparation

    return run_preparation(partial(prepare_kinetics, version=args.version), args)


if __name__ == "__main__":
    sys.exit(main())
