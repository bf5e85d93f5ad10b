"""Time the plugin against the packages that do the same job, in one run: the ratios are what counts."""

import argparse
import sys

import torch

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.apis.benchmark import comparisons, describe_machine, format_table, measure


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/benchmark.py --repeats 10 --device cuda (or: make bench)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, the median counts (%(default)s)")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="cpu or cuda (%(default)s)")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats has to be at least 1")
    device = torch.device(args.device)
    rows = []
    for comparison in comparisons(device):
        print(f"timing: {comparison.job}", file=sys.stderr, flush=True)
        rows.append((comparison, *measure(comparison, args.repeats, device)))
    print(f"{describe_machine(device)}, median of {args.repeats}:\n\n{format_table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
