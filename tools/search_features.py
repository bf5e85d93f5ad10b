"""Find the images or clips of an archive that are most like a given one, by a file of features."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.arguments import CONFIG_HELP, OptionAction
from maskfeat_cli.given_files import missing_checkpoint, missing_config, missing_input, refuse

EXAMPLE = """example:
  python tools/search_features.py photo.png --in features.npz
  python tools/search_features.py camera.mp4 --at 12.5 --in features.parquet --count 5

tools/extract_features.py has written the file, which names its config and checkpoint. A line is printed for each row
that is found: cosine similarity, start and end in seconds (of extract --every), and name. See docs/features.md."""

INDEXES = ("numpy", "faiss")  # those of maskfeat_plugin.apis.features.search


def main(arguments: list[str] | None = None) -> int:
    """Search; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("query", metavar="QUERY", help="an image or a video")
    parser.add_argument("--in", dest="features", type=Path, required=True, metavar="FILE", help="the file of features")
    parser.add_argument("--at", type=float, metavar="SECONDS", help="middle of the clip in QUERY (its own middle)")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="rows to print (%(default)s)")
    parser.add_argument("--config", metavar="CONFIG", help=f"{CONFIG_HELP} (the one that FILE names)")
    parser.add_argument("--checkpoint", metavar="CHECKPOINT", help="a path or a URL (the one that FILE names)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionAction, metavar="KEY=VALUE", help="those of the extraction"
    )
    parser.add_argument("--index", choices=INDEXES, default="numpy", help="what compares the vectors (%(default)s)")
    parser.add_argument("--device", help="cuda or cpu (cuda, if there is a GPU)")
    parser.add_argument("--traceback", action="store_true", help="with an error in the config, show where it arose")
    args = parser.parse_args(arguments)
    features = None if args.features.exists() else f"{args.features} does not exist."
    config, checkpoint = missing_config(args.config), missing_checkpoint(args.checkpoint)
    if refuse(features, config, checkpoint, missing_input(args.query)):
        return 1

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.apis.features.search import search_features
    from maskfeat_plugin.running.command_line import chosen_device, run_tool

    def work() -> None:
        found = search_features(
            args.features,
            args.query,
            args.at,
            args.config,
            args.checkpoint,
            args.count,
            args.index,
            chosen_device(args.device),
            args.cfg_options,
        )
        for row in found:
            time = "" if row.time is None else f"{row.time[0]:10.2f} {row.time[1]:10.2f}"
            print(f"{row.similarity:7.4f} {time} {row.name}")

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
