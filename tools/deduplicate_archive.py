"""Find near-duplicates and static videos in a manifest, and write a manifest without them."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.given_files import missing_manifest, refuse

EXAMPLE = """example:
  python tools/deduplicate_archive.py my_videos.parquet
  python tools/deduplicate_archive.py my_videos.parquet --report redundant.csv --out my_training.parquet

The command deletes no files. Look at the report, then train on the new manifest. See docs/data.md."""

MOST_BITS = 11  # the same as in maskfeat_plugin.preparation.near_duplicates


def main(arguments: list[str] | None = None) -> int:
    """Find the redundant files, write the new manifest, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="written by maskfeat index")
    parser.add_argument(
        "--bits", type=int, default=4, help=f"most bits in which near-duplicates differ, 0 to {MOST_BITS} (default: 4)"
    )
    parser.add_argument(
        "--motion",
        type=float,
        default=0.002,
        help="videos with less motion are static; 0: no video is (default: 0.002)",
    )
    parser.add_argument("--report", type=Path, metavar="CSV", help="file for the table of all redundant files")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file of the new manifest, ends in .parquet")
    args = parser.parse_args(arguments)
    if refuse(missing_manifest(args.manifest)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.preparation.near_duplicates import deduplicate
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        print(deduplicate(args.manifest, args.out, args.report, args.bits, args.motion).summary())
        for path in filter(None, (args.report, args.out)):
            print(path)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
