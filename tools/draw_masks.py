"""Draw every kind of mask and the schedules of the mask ratio: the pictures of docs/masks.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

EXAMPLE = """example, after a change of a mask generator or a schedule:
  python tools/draw_masks.py --out docs

It writes masks_image.png, masks_video.png and mask_ratio.png. The same seed gives the same pictures."""


def main(arguments: list[str] | None = None) -> int:
    """Draw the pictures and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs"), metavar="FOLDER", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the masks (default: %(default)s)")
    args = parser.parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    import maskfeat_plugin  # noqa: F401 (registers the components)
    from maskfeat_plugin.running.command_line import run_tool
    from projects.documentation.mask_pictures import write_mask_pictures

    def work() -> None:
        for path in write_mask_pictures(args.out, args.seed):
            print(path)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
