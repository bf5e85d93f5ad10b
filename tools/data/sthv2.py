"""Prepare Something-Something v2 from its official downloads: videos, and lists of the readable videos."""

import argparse
import sys

from maskfeat_cli.arguments import build_data_parser

EXAMPLE = """example:
  python tools/data/sthv2.py downloads/sthv2 --root data/sthv2

SOURCE holds the parts 20bn-something-something-v2-00, -01, ... or the folder of .webm files, and the labels as .json
files or 20bn-something-something-download-package-labels.zip. Nothing is downloaded. See docs/data.md."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return build_data_parser(__doc__, EXAMPLE, root="data/sthv2").parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data and return the exit status."""
    args = parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.preparation import prepare_sthv2, run_preparation

    return run_preparation(prepare_sthv2, args)


if __name__ == "__main__":
    sys.exit(main())
