"""Draw the pictures of docs/concepts.md: tokens, a mask, HOG, and predictions of the demo's shipped models."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

EXAMPLE = """example, after a change of the drawing of HOG or of the shipped weights:
  python tools/draw_concepts.py --out docs

It writes concepts_steps.png, concepts_token.png, concepts_frames.png and concepts_clip.png."""


def main(arguments: list[str] | None = None) -> int:
    """Draw the pictures and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs"), metavar="FOLDER", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the mask (default: %(default)s)")
    args = parser.parse_args(arguments)

    # imported after the arguments were checked: these imports take seconds
    import maskfeat_plugin  # noqa: F401 (registers the components)
    from maskfeat_plugin.running.command_line import run_tool
    from projects.documentation.concept_pictures import write_concept_pictures

    def work() -> None:
        for path in write_concept_pictures(args.out, args.seed):
            print(path)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
