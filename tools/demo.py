"""Run the demo: MaskFeat pre-trained and fine-tuned on MovingDigits, in about a quarter of an hour on 2 cores."""

import argparse
import sys
from pathlib import Path

import maskfeat_plugin.apis.demo.orchestrate as demo
from maskfeat_plugin.apis.demo.tasks import TASKS, WORK_DIR
from maskfeat_plugin.apis.demo.train import run_task


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/demo.py (or: make demo)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="where to write (default: work_dirs/demo)")
    parser.add_argument("--task", choices=sorted(TASKS), help="one task alone, in this process, without the report")
    parser.add_argument("--make-weights", action="store_true", help="train the shipped weights anew")
    return parser.parse_args()


def main() -> int:
    """Run the command line; returns the exit status."""
    args = parse_args()
    try:
        if args.task is None:
            demo.make_weights(args.work_dir) if args.make_weights else demo.run_demo(args.work_dir)
        elif args.make_weights:
            demo.make_weights_of(TASKS[args.task], args.work_dir / args.task)
        else:
            run_task(TASKS[args.task], args.work_dir / args.task, demo.say_progress)
    except demo.DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; `make demo` starts again, the data stays", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
