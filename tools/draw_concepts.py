"""Draw the pictures of docs/concepts.md: tokens, a mask, HOG, and what the shipped models of the demo predict."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is no installed package

EXAMPLE = """example, after the drawing of HOG or the shipped weights were changed:
  python tools/draw_concepts.py --out docs

Writes concepts_steps.png, concepts_token.png, concepts_frames.png and concepts_clip.png."""


def main(arguments: list[str] | None = None) -> int:
    """Draw; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="FOLDER", help="where to (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mask (%(default)s)")
    args = parser.parse_args(arguments)

    # not before the arguments are known to be right: these imports take seconds
    import maskfeat_plugin  # noqa: F401 (registers the components)
    from maskfeat_plugin.running.command_line import run_tool
    from projects.documentation.concept_pictures import write_concept_pictures

    def work() -> None:
        for path in write_concept_pictures(args.out, args.seed):
            print(path)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
