"""Write a manifest: one parquet file with a row for each image and video below a folder."""

import argparse
import os
import sys
from pathlib import Path

from maskfeat_cli.arguments import positive
from maskfeat_cli.given_files import refuse

EXAMPLE = """example:
  python tools/index_archive.py my_videos --out my_videos.parquet
  python tools/train.py my_videos.py --cfg-options train_dataloader.dataset.ann_file=my_videos.parquet

Run the command again after files were added, changed or removed. It reads only new and changed files. See
docs/data.md."""


def main(arguments: list[str] | None = None) -> int:
    """Write the manifest and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of images and videos, at any depth")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file of the manifest, ends in .parquet"
    )
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="processes that read files (default: the number of cores)"
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="longest time to read a file (default: %(default)s)",
    )
    parser.add_argument("--retry", action="store_true", help="read files with problems again")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    args = parser.parse_args(arguments)
    folder = os.path.abspath(args.folder)
    missing = f"FOLDER {folder} is not there. Give the folder with the images and videos."
    if refuse(None if os.path.isdir(folder) else missing):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.machine import usable_cores
    from maskfeat_plugin.preparation.manifest_index import index_folder
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        workers = args.workers or usable_cores()
        options = dict(workers=workers, timeout=args.timeout, retry=args.retry, progress=not args.quiet)
        print(index_folder(args.folder, args.out, **options).summary())
        print(args.out)

    return run_tool(work, hint="run the same command again to continue")


if __name__ == "__main__":
    sys.exit(main())
