"""Find the images or clips of an archive that are most similar to a given one, with a file of features."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.arguments import CONFIG_HELP, OptionAction
from maskfeat_cli.given_files import missing_checkpoint, missing_config, missing_input, refuse

EXAMPLE = """example:
  python tools/search_features.py photo.png --in features.npz
  python tools/search_features.py camera.mp4 --at 12.5 --in features.parquet --count 5

Write the file of features with tools/extract_features.py; it names its config and checkpoint. This command prints a
line for each row that it finds: cosine similarity, start and end in seconds (for extract --every), and name. See
docs/features.md."""

INDEXES = ("numpy", "faiss")  # the same as in maskfeat_plugin.apis.features.search


def main(arguments: list[str] | None = None) -> int:
    """Search, print the rows found, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("query", metavar="QUERY", help="image or video to compare with")
    parser.add_argument("--in", dest="features", type=Path, required=True, metavar="FILE", help="file of features")
    parser.add_argument(
        "--at", type=float, metavar="SECONDS", help="time of the clip's middle in QUERY (default: QUERY's middle)"
    )
    parser.add_argument("--count", type=int, default=10, metavar="N", help="rows to print (default: %(default)s)")
    parser.add_argument("--config", metavar="CONFIG", help=f"{CONFIG_HELP} (default: as FILE says)")
    parser.add_argument("--checkpoint", metavar="CHECKPOINT", help="a path or a URL (default: as FILE says)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionAction, metavar="KEY=VALUE", help="the same as in the extraction"
    )
    parser.add_argument(
        "--index", choices=INDEXES, default="numpy", help="library that compares the vectors (default: %(default)s)"
    )
    parser.add_argument("--device", help="cuda or cpu (default: cuda if there is a GPU)")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error in the config")
    args = parser.parse_args(arguments)
    features = None if args.features.exists() else f"{args.features} does not exist."
    config, checkpoint = missing_config(args.config), missing_checkpoint(args.checkpoint)
    if refuse(features, config, checkpoint, missing_input(args.query)):
        return 1

    # imported after the arguments were checked: these imports take seconds
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
