"""Find near-duplicates and static videos in a manifest, and write one without them."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.given_files import missing_manifest, refuse

EXAMPLE = """example:
  python tools/deduplicate_archive.py my_videos.parquet
  python tools/deduplicate_archive.py my_videos.parquet --report redundant.csv --out my_training.parquet

No file is removed: look at the report, then train on the new manifest. See docs/data.md."""

MOST_BITS = 11  # that of maskfeat_plugin.preparation.near_duplicates


def main(arguments: list[str] | None = None) -> int:
    """Find and write; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="written by maskfeat index")
    parser.add_argument(
        "--bits", type=int, default=4, help=f"hashes of near-duplicates differ in so many, 0 to {MOST_BITS} (4)"
    )
    parser.add_argument("--motion", type=float, default=0.002, help="videos with less are static; 0 for none (0.002)")
    parser.add_argument("--report", type=Path, metavar="CSV", help="table of all files that were found")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the new manifest, ends in .parquet")
    args = parser.parse_args(arguments)
    if refuse(missing_manifest(args.manifest)):
        return 1

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.preparation.near_duplicates import deduplicate
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        print(deduplicate(args.manifest, args.out, args.report, args.bits, args.motion).summary())
        for path in filter(None, (args.report, args.out)):
            print(path)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
