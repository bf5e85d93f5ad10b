"""Build the data sets Sounds (WAV files) and Solids (volumes): eight classes each, without a download."""

import argparse
import sys
from pathlib import Path

from maskfeat_plugin.datasets.synthetic_signals import build_solids, build_sounds

EXAMPLE = """example:
  python tools/data/signals.py data

This writes data/sounds and data/solids, 46 MB and 75 MB. The same seed gives the same bytes. If a folder already holds
them, nothing is written."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "root", metavar="ROOT", type=Path, nargs="?", default=Path("data"), help="folder (default: data)"
    )
    for name, default, text in (
        ("seed", 0, "seed of all random numbers"),
        ("num-train", 1600, "training files"),
        ("num-test", 800, "test files"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    parser.add_argument(
        "--num-labelled", type=int, metavar="N", help="training files in labelled.txt (default: 80 sounds, 400 solids)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Build the data sets, print their folders, and return the exit status."""
    settings = {key: value for key, value in vars(parse_args(arguments)).items() if value is not None}
    root = settings.pop("root")
    try:
        for name, build in (("sounds", build_sounds), ("solids", build_solids)):
            print(build(root / name, **settings))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
