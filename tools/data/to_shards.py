"""Write the samples of a config's data set to tar shards in the format of webdataset, with an index of each shard."""

import sys
from pathlib import Path

from maskfeat_cli.arguments import build_parser, positive, whole
from maskfeat_cli.given_files import missing_config, refuse

EXAMPLE = """example:
  python tools/data/to_shards.py configs/pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py \\
      data/imagenet_shards

The command prints the ann_file for the config. Run it again to continue after an interruption. See docs/shards.md."""


def main(arguments: list[str] | None = None) -> int:
    """Write the shards and return the exit status."""
    parser = build_parser(__doc__, EXAMPLE, launcher=False)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the shards")
    parser.add_argument(
        "--dataloader",
        choices=("train", "val", "test"),
        default="train",
        help="dataloader whose data set is written (default: %(default)s)",
    )
    parser.add_argument("--samples", type=positive, default=1000, help="samples of a shard (default: %(default)s)")
    parser.add_argument("--seed", type=whole, default=0, help="seed of the random order (default: %(default)s)")
    parser.add_argument("--in-order", action="store_true", help="keep the order of the data set")
    parser.add_argument("--workers", type=positive, metavar="N", help="number of processes (default: number of cores)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    args = parser.parse_args(arguments)
    if refuse(missing_config(args.config)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.machine import usable_cores
    from maskfeat_plugin.preparation.shard_writing import ShardSettings, build_dataset, write_shards
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options)
        settings = ShardSettings(args.samples, None if args.in_order else args.seed)
        dataset = build_dataset(cfg, f"{args.dataloader}_dataloader")
        workers = args.workers or usable_cores()
        print(write_shards(dataset, args.out, settings, workers=workers, progress=not args.quiet).summary())

    return run_tool(work, args.traceback, hint="run the same command again to continue")


if __name__ == "__main__":
    sys.exit(main())
