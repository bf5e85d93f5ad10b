"""Test a fine-tuned model: compute the metrics of its config on the test data."""

import argparse
import sys

from maskfeat_cli.arguments import build_parser
from maskfeat_cli.given_files import missing_config, missing_start, refuse

EXAMPLE = """example:
  python tools/test.py configs/recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py \\
      work_dirs/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400/epoch_100.pth

The metrics are printed and written as JSON to the work directory. On several GPUs, use tools/dist_test.sh."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = build_parser(__doc__, EXAMPLE)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint of the fine-tuned model: a path or a URL")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Test and return the exit status."""
    args = parse_args(arguments)
    if refuse(missing_config(args.config), missing_start(args.checkpoint)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.running.command_line import run_tool
    from maskfeat_plugin.running.training import build_tester

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options, args.launcher)
        cfg.load_from = args.checkpoint
        build_tester(cfg).test()

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
