"""Write one HTML page about a training: curves, metrics, speed, samples, config and versions.

The command reads the files of the training, during the training or afterwards, and does not change them.
"""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.given_files import refuse

EXAMPLE = """example:
  python tools/report.py work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k

It works for every config of this package: pre-training, classification, recognition, detection. See docs/logs.md."""


def main(arguments: list[str] | None = None) -> int:
    """Write the page and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR", help="work directory of the training")
    parser.add_argument("--out", type=Path, metavar="HTML", help="file to write (default: WORK_DIR/report.html)")
    args = parser.parse_args(arguments)
    advice = "Give the work directory of a training, the --work-dir of maskfeat train."
    if refuse(None if args.work_dir.exists() else f"{args.work_dir} does not exist. {advice}"):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.running.command_line import run_tool
    from maskfeat_plugin.training_report import write_training_report

    def work() -> None:
        path = write_training_report(args.work_dir, args.out)
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
