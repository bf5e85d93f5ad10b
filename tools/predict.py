"""Classify images or videos with a fine-tuned model."""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.arguments import positive
from maskfeat_cli.given_files import missing_checkpoint, missing_input, missing_run, refuse

EXAMPLE = """examples:
  maskfeat predict a.jpg b.jpg --from work_dirs/my_photos_finetune
  maskfeat predict new_videos --from work_dirs/my_clips_finetune --out predictions.csv

maskfeat visualize draws the predictions."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", metavar="FILE", nargs="+", help="images or videos, or folders of them at any depth")
    parser.add_argument(
        "--from", dest="run", required=True, metavar="RUN", help="work directory of the fine-tuning, or its config"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of the model (default: the newest of RUN)")
    parser.add_argument("--top", type=positive, default=3, metavar="K", help="number of classes to print (default: 3)")
    parser.add_argument("--out", type=Path, metavar="CSV", help="also write the predictions to this table")
    parser.add_argument("--device", help="cuda or cpu (default: cuda if there is a GPU)")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Classify and return the exit status."""
    args = parse_args(arguments)
    missing = (missing_run(args.run), *map(missing_input, args.inputs), missing_checkpoint(args.checkpoint))
    if refuse(*missing):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from tqdm import tqdm

    from maskfeat_plugin.apis.prediction import predict, write_predictions
    from maskfeat_plugin.datasets.folders import printable
    from maskfeat_plugin.running.command_line import chosen_device, run_tool

    def work() -> None:
        rows = []
        for row in predict(args.run, args.inputs, args.checkpoint, args.top, chosen_device(args.device)):
            rows.append(row)
            classes = ", ".join(f"{name} {score:.2f}" for name, score in row.best)
            tqdm.write(f"{printable(row.file)}: {classes}")
        if args.out:
            write_predictions(rows, args.out)

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
