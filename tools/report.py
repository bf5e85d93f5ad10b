"""One HTML page about a training: curves, metrics, speed, samples, config and versions, in one file.

It reads what the training has written, while it runs or afterwards, and changes nothing.
"""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.given_files import refuse

EXAMPLE = """example:
  python tools/report.py work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k

Any training of a config here: pre-training, classification, recognition, detection. See docs/logs.md."""


def main(arguments: list[str] | None = None) -> int:
    """Write the page; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR", help="work directory of the training")
    parser.add_argument("--out", type=Path, metavar="HTML", help="file to write (WORK_DIR/report.html)")
    args = parser.parse_args(arguments)
    advice = "give the work directory of a training, the --work-dir of maskfeat train."
    if refuse(None if args.work_dir.exists() else f"{args.work_dir} does not exist; {advice}"):
        return 1

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.running.command_line import run_tool
    from maskfeat_plugin.training_report import write_training_report

    def work() -> None:
        path = write_training_report(args.work_dir, args.out)
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
