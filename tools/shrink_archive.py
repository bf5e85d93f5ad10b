"""Write smaller copies of the videos in a folder: fewer pixels, no sound, and long videos cut into pieces."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.arguments import positive
from maskfeat_cli.given_files import missing_manifest, refuse

EXAMPLE = """example:
  python tools/shrink_archive.py my_videos my_videos_256
  python tools/shrink_archive.py my_videos.parquet my_videos_256 --short-side 320 --max-seconds 30 --codec av1

PyAV brings the libraries of ffmpeg, so the program ffmpeg is not needed. See docs/scaling.md."""

CODECS = ("h264", "av1")  # the same as in maskfeat_plugin.preparation.shrinking


def main(arguments: list[str] | None = None) -> int:
    """Write the copies and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder with videos, or a manifest of it")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the copies, outside SOURCE")
    parser.add_argument(
        "--short-side",
        type=positive,
        default=256,
        metavar="PIXELS",
        help="largest short side of the copies (default: %(default)s)",
    )
    parser.add_argument(
        "--max-seconds", type=float, default=60.0, metavar="SECONDS", help="cut longer videos into pieces (default: 60)"
    )
    parser.add_argument("--codec", choices=CODECS, default="h264", help="codec of the copies (default: %(default)s)")
    parser.add_argument(
        "--quality", type=int, metavar="CRF", help="0 to 51, smaller is better (default: 23 for h264, 35 for av1)"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="number of processes (default: number of cores)")
    parser.add_argument("--retry", action="store_true", help="read videos again that were skipped before")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    args = parser.parse_args(arguments)
    if args.source.suffix == ".parquet":
        missing = missing_manifest(args.source)
    else:
        missing = f"SOURCE {args.source} is not there. Give the folder with the videos, or a manifest of it."
    if not args.source.exists() and refuse(missing):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.machine import usable_cores
    from maskfeat_plugin.preparation.shrinking import ShrinkSettings, shrink_archive
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        settings = ShrinkSettings(args.short_side, args.max_seconds, args.codec, args.quality)
        options = dict(workers=args.workers or usable_cores(), retry=args.retry, progress=not args.quiet)
        print(shrink_archive(args.source, args.out, settings, **options).summary())

    return run_tool(work, hint="run the same command again to continue")


if __name__ == "__main__":
    sys.exit(main())
