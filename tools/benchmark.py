"""Time the plugin against the packages that do the same job, in one run: the ratios are what counts."""

import argparse
import sys

import torch
from mmengine.config import Config

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.apis.benchmark import comparisons, describe_machine, format_table, measure
from maskfeat_plugin.apis.step_benchmark import compare_steps


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/benchmark.py --repeats 10 --device cuda (or: make bench)\n"
        "example: python tools/benchmark.py --steps OURS.py THEIRS.py --mask-ratio 0.4 0.75 --batch-size 8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, the median counts (%(default)s)")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="cpu or cuda (%(default)s)")
    parser.add_argument(
        "--steps", nargs=2, metavar="CONFIG", help="instead, a training step of the first config against the second's"
    )
    parser.add_argument("--mask-ratio", nargs="+", type=float, default=[0.4], help="of --steps (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="of --steps (%(default)s)")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats has to be at least 1")
    device = torch.device(args.device)
    if args.steps:
        ours, theirs = map(Config.fromfile, args.steps)
        jobs = (compare_steps(ours, theirs, ratio, args.batch_size, device) for ratio in args.mask_ratio)
    else:
        jobs = comparisons(device)
    rows = []
    for comparison in jobs:
        print(f"timing: {comparison.job}", file=sys.stderr, flush=True)
        rows.append((comparison, *measure(comparison, args.repeats, device)))
    print(f"{describe_machine(device)}, median of {args.repeats}:\n\n{format_table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
