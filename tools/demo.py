"""Run the demo: MaskFeat pre-trained on MovingDigits and fine-tuned into four tasks.

Pre-training is short, and each task is fine-tuned from it, with one seed. With --full, pre-training is longer, training
from scratch and the shipped weights are two more starts, and there are three seeds.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is no installed package

import projects.demo.orchestrate as demo
from projects.demo.tasks import FULL, PRETRAININGS, QUICK, TASKS, WORK_DIR
from projects.demo.train import run_part


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python tools/demo.py --full --tasks ava coco (or: make demo-full TASKS="ava coco")',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="where to write (default: work_dirs/demo)")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="some of the tasks alone")
    parser.add_argument("--full", action="store_true", help="three starts and three seeds: the README's table")
    parser.add_argument("--make-weights", action="store_true", help="train the shipped weights anew")
    parser.add_argument(
        "--part", choices=list(PRETRAININGS), help="one pre-training and its tasks, in this process, without the report"
    )
    return parser.parse_args()


def main() -> int:
    """Run the command line; returns the exit status."""
    args = parse_args()
    tasks = [TASKS[name] for name in TASKS if name in args.tasks]
    plan = FULL if args.full else QUICK
    try:
        if args.part is None:
            demo.make_weights(args.work_dir) if args.make_weights else demo.run_demo(
                args.work_dir, tasks=tasks, plan=plan
            )
        elif args.make_weights:
            demo.make_weights_of(PRETRAININGS[args.part], args.work_dir)
        else:
            own = [task for task in tasks if task.pretraining.name == args.part]
            run_part(PRETRAININGS[args.part], own, plan, args.work_dir, demo.say_progress)
    except demo.DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the same command starts again, the data stays", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
