"""Run the demo: pre-train MaskFeat on MovingDigits and fine-tune it for up to five tasks.

By default pre-training is short, and each task except segmentation is fine-tuned from it once. With --full,
pre-training is longer, each task is also trained from scratch and from the shipped weights, and each of these trainings
is run with three seeds.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

import projects.demo.orchestrate as demo
from projects.demo.tasks import FULL, PRETRAININGS, QUICK, TASKS, WORK_DIR, default_tasks
from projects.demo.train import run_part


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python tools/demo.py --full --tasks ava coco (or: make demo-full TASKS="ava coco")',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--work-dir", type=Path, default=WORK_DIR, help="folder of all results (default: work_dirs/demo)"
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=list(TASKS), help="tasks to run (default: all; without --full all except seg)"
    )
    parser.add_argument("--full", action="store_true", help="three starts and three seeds: the README's table")
    parser.add_argument("--make-weights", action="store_true", help="train the shipped weights again")
    parser.add_argument(
        "--part", choices=list(PRETRAININGS), help="run one pre-training and its tasks in this process, without report"
    )
    return parser.parse_args()


def main() -> int:
    """Run the command line and return the exit status."""
    args = parse_args()
    plan = FULL if args.full else QUICK
    tasks = [task for name, task in TASKS.items() if name in args.tasks] if args.tasks else default_tasks(plan)
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
        print("\ndemo: interrupted. Run the same command to start again; the data set is kept.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
