"""Draw every kind of mask and the schedules of the mask ratio: the pictures of docs/masks.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is no installed package

EXAMPLE = """example, after a mask generator or a schedule was changed:
  python tools/draw_masks.py --out docs

Writes masks_image.png, masks_video.png and mask_ratio.png, the same pictures for the same seed."""


def main(arguments: list[str] | None = None) -> int:
    """Draw; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="FOLDER", help="where to (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the masks (%(default)s)")
    args = parser.parse_args(arguments)

    # not before the arguments are known to be right: these imports take seconds
    import maskfeat_plugin  # noqa: F401 (registers the components)
    from maskfeat_plugin.running.command_line import run_tool
    from projects.documentation.mask_pictures import write_mask_pictures

    def work() -> None:
        for path in write_mask_pictures(args.out, args.seed):
            print(path)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
