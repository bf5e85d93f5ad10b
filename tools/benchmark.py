"""Compare the speed of the plugin with packages that do the same job.

Both are timed in turns in one run, so the ratios are reliable even if the absolute times are not.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

import torch
from mmengine.logging import MMLogger

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_cli.arguments import positive
from maskfeat_plugin.apis import ConfigError, load_config
from maskfeat_plugin.running.command_line import run_tool
from projects.benchmark import (
    Comparison,
    DeviceCheck,
    check_device,
    compare_steps,
    comparisons,
    costs,
    count_steps,
    describe_machine,
    format_changes,
    format_checks,
    format_costs,
    format_counted_work,
    format_table,
    measure,
    read_run,
    write_run,
)

EXAMPLE = """examples:
  make bench                                            all rows, with all threads of this machine
  python tools/benchmark.py --json before.json          save the measurements
  python tools/benchmark.py --against before.json       compare with saved measurements
  python tools/benchmark.py --only HOG masks --repeats 10
  python tools/benchmark.py --costs                     cost of a step by batch size, frames, side, ratio, processes
  python tools/benchmark.py --counts                    operators and bytes of a step, without timing
  python tools/benchmark.py --data                      clips and images per second from files, tar shards and S3
  python tools/benchmark.py --steps OURS.py THEIRS.py --mask-ratio 0.4 0.75 --batch-size 8"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=positive, default=5, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--gpu", action="store_true", help="check the GPU, then use it; models run in bfloat16")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="time only rows whose name has one of these words")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the measurements to this file")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with measurements saved by --json")
    parser.add_argument("--costs", action="store_true", help="instead, measure how the cost of a training step grows")
    parser.add_argument(
        "--counts", action="store_true", help="instead, count operators and the bytes that they move in a training step"
    )
    parser.add_argument(
        "--data", action="store_true", help="instead, measure how many clips and images a second workers read"
    )
    parser.add_argument("--clips", type=positive, default=64, help="for --data: clips of a run (default: %(default)s)")
    parser.add_argument(
        "--images", type=positive, default=768, help="for --data: images of a run (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", nargs=2, metavar="CONFIG", help="instead, compare a training step of two configs: first / second"
    )
    parser.add_argument("--mask-ratio", nargs="+", type=float, default=[0.4], help="for --steps (default: 0.4)")
    parser.add_argument("--batch-size", type=positive, default=8, help="for --steps (default: %(default)s)")
    args = parser.parse_args(arguments)
    return run_tool(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    if args.gpu and not torch.cuda.is_available():
        raise ConfigError("--gpu: torch sees no GPU. Leave out --gpu to run on the CPU.")
    if args.json and not args.json.absolute().parent.is_dir():
        raise ConfigError(f"--json {args.json}: the folder {args.json.absolute().parent} does not exist. Create it.")
    if args.counts:
        print(format_counted_work(count_steps()))
        return
    if args.data:
        _measure_data(dict(clips=args.clips, images=args.images))
        return
    device = torch.device("cuda" if args.gpu else "cpu")
    before = read_run(args.against) if args.against else None
    heading = f"{describe_machine(device)}, median of {args.repeats}:\n"
    if args.costs:
        grown = []
        for row in costs(args.repeats, device):
            _say(f"{row.model}, {row.what}, {row.value}: {row.seconds:.2f} s")
            grown.append(row)
        print(heading, format_costs(grown), sep="\n")
        return
    checks: list[DeviceCheck] = []
    if args.gpu:
        for check in check_device(device):
            _say(f"{check.name}: {'passed' if check.passed else 'FAILED'}, {check.found}")
            checks.append(check)
        print(format_checks(checks), "", format_counted_work(count_steps()), "", sep="\n")
    rows, found = [], False
    for comparison in _jobs(args, device):
        if args.only and not any(word.lower() in comparison.job.lower() for word in args.only):
            continue
        found = True
        if comparison.missing:
            _say(f"left out: {comparison.job}: {comparison.missing}")
            continue
        _say(f"timing: {comparison.job}")
        rows.append(measure(comparison, args.repeats, device))
    if not found:
        raise ConfigError(
            f"--only {' '.join(args.only)}: no row has such a word in its name. Leave out --only for all."
        )
    print(heading, format_table(rows), sep="\n")
    if args.json:
        write_run(args.json, describe_machine(device), args.repeats, rows, checks)
    if before:
        print("", format_changes(before, rows), sep="\n")


def _measure_data(counts: dict[str, int]) -> None:
    from projects.benchmark import data_throughput  # needs moto, which users of the other rows need not install

    MMLogger.get_instance("benchmark", log_level="ERROR")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print(f"{describe_machine(torch.device('cpu'))}; load of the machine: {os.getloadavg()[0]:.1f}\n")
        print(data_throughput.format_throughput(list(data_throughput.measure_throughput(place, counts))), "", sep="\n")
        small = {kind: max(count // 4, 1) for kind, count in counts.items()}
        print(data_throughput.format_loading(list(data_throughput.measure_loading(place, small))), "", sep="\n")
        print(data_throughput.format_readers(list(data_throughput.measure_readers(place, small["clips"]))))


def _jobs(args: argparse.Namespace, device: torch.device) -> Iterator[Comparison]:
    if not args.steps:
        with tempfile.TemporaryDirectory() as folder:
            yield from comparisons(device, Path(folder))
        return
    ours, theirs = map(load_config, args.steps)
    for ratio in args.mask_ratio:
        yield compare_steps(ours, theirs, ratio, args.batch_size, device)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
