"""Estimate the parameters, FLOPs, memory and days of a training from its config, without training.

A multiplication and an addition count as two FLOPs. Memory is the peak of a step on each GPU. It consists of weights,
gradients and optimizer ("states"), and of activations, which are given for one sample. Days include computation only:
slow data loading and communication add to them.
"""

import argparse
import sys

from maskfeat_cli.arguments import CONFIG_HELP, positive, positive_float
from maskfeat_cli.given_files import missing_config, refuse

EXAMPLE = """examples:
  python tools/estimate.py configs/pretrain/maskfeat_mvit-large-16x4_64xb8-amp-coslr-800e_k400.py --gpus 64 --tflops 100
  python tools/estimate.py configs/scaling/maskfeat-fsdp_*-large-*.py --memory 40
  python tools/estimate.py configs/scaling/maskfeat-fsdp_mvit-large-16x4_64xb8-amp-coslr-800e_k400.py \\
      --measure data-parallel sharded --processes 2 --batch-size 1 --size 4 64 64

--measure trains two steps on this machine's CPU, in float32 on random inputs. It measures each process's memory."""


WAYS = ("data-parallel", "sharded", "sharded-recomputed")  # the same as in maskfeat_plugin.apis.estimate


def main(arguments: list[str] | None = None) -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", metavar="CONFIG", nargs="+", help=f"{CONFIG_HELP}; each gives a row")
    parser.add_argument("--gpus", type=positive, help="number of GPUs (default: the number in the config's name)")
    parser.add_argument("--batch-size", type=positive, help="samples per step on each GPU (default: the config's)")
    parser.add_argument(
        "--tflops",
        type=positive_float,
        default=100.0,
        help="speed of a GPU in training, in 10**12 FLOPs per second (default: %(default)s, an assumption; take the "
        "real value from the log of your first training)",
    )
    parser.add_argument("--memory", type=positive_float, default=80.0, help="GB of each GPU (default: %(default)s)")
    parser.add_argument("--samples", type=positive, help="samples per epoch (default: from the annotations, if known)")
    parser.add_argument("--measure", nargs="+", choices=WAYS, help="instead, measure memory on this machine")
    parser.add_argument("--processes", type=positive, default=2, help="processes of --measure (default: %(default)s)")
    parser.add_argument("--size", type=positive, nargs="+", help="input size of --measure: H W, or T H W")
    args = parser.parse_args(arguments)
    wrong = None
    if args.measure and len(args.size or ()) not in (2, 3):
        wrong = "--measure: the input size is missing. Add --size H W for images or --size T H W for clips."
    if refuse(wrong, *map(missing_config, args.configs)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.running.command_line import run_tool

    return run_tool(lambda: _measure(args) if args.measure else _estimate(args))


def _estimate(args: argparse.Namespace) -> None:
    from maskfeat_plugin.apis.estimate import format_plans, model_costs, plan_training
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.errors import ConfigError

    plans = []
    for path in args.configs:
        cfg = load_config(path)
        if cfg.get("train_dataloader") is None or cfg.get("optim_wrapper") is None:
            raise ConfigError(f"{path} has no train_dataloader and optim_wrapper. Give the config of a training.")
        print(f"estimating {path}", file=sys.stderr, flush=True)
        plans.append(
            plan_training(cfg, model_costs(cfg), args.tflops, args.memory, args.gpus, args.batch_size, args.samples)
        )
    print(f"{args.tflops:g} TFLOP/s and {args.memory:g} GB per GPU\n")
    print(format_plans(plans))


def _measure(args: argparse.Namespace) -> None:
    from maskfeat_plugin.apis.estimate import measure_peaks
    from maskfeat_plugin.config.load import load_config

    batch = args.batch_size or 1
    print("| config | way | processes x batch | size | memory of each, MB |\n| --- | --- | ---: | ---: | ---: |")
    for path in args.configs:
        cfg = load_config(path)
        for way in args.measure:
            peaks = measure_peaks(path, way, args.processes, batch, args.size)
            size, memory = " x ".join(map(str, args.size)), ", ".join(f"{peak:.0f}" for peak in peaks)
            name = cfg.filename.rpartition("/")[2].removesuffix(".py")
            print(f"| {name} | {way} | {args.processes} x {batch} | {size} | {memory} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
