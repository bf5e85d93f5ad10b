"""Draw the predictions of a model: one picture for each image or clip, and a moving picture for each clip.

The pictures of a pre-trained model show masked input, prediction, target and original. Those from a fine-tuned model
show classes, boxes of objects, or boxes of persons with their actions, for samples or for a whole video. --neighbours
draws the files that are most similar to each input instead.
"""

import argparse
import sys
from pathlib import Path

from maskfeat_cli.arguments import CONFIG_HELP, OptionAction, positive
from maskfeat_cli.given_files import missing_checkpoint, missing_config, missing_input, refuse

EXAMPLE = """examples:
  python tools/visualize.py configs/demo/maskfeat_vit-tiny_moving-digits.py \\
      configs/demo/weights/maskfeat_vit-tiny_moving-digits.pth some.jpg --out out
  python tools/visualize.py CONFIG CHECKPOINT folder --out out --mask-ratio 0.6 --attention
  python tools/visualize.py CONFIG CHECKPOINT --dataset test --count 4 --out out
  python tools/visualize.py CONFIG CHECKPOINT some.jpg --neighbours 5 --among folder --out out
  python tools/visualize.py CONFIG CHECKPOINT clip.mp4 --boxes boxes.csv --out out

See docs/visualization.md. See docs/action_detection.md for actions in a video."""


SPLITS, CLIPS = ("train", "val", "test"), ("gif", "mp4")  # the same as in maskfeat_plugin.apis.pictures


def score(text: str) -> float:
    """Read a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("has to be from 0 to 1")
    return value


def seconds(text: str) -> float:
    """Read a time in seconds, above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("has to be above 0")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Draw the pictures and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help=f"{CONFIG_HELP}, of pre-training or fine-tuning")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="weights of the model: a path or a URL")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="images or videos, or folders of them at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the pictures")
    parser.add_argument("--dataset", choices=SPLITS, help="draw samples of the config's data set instead of INPUT")
    parser.add_argument("--indices", type=int, nargs="+", metavar="N", help="samples of --dataset to draw, by index")
    parser.add_argument("--count", type=positive, metavar="N", help="draw N evenly spread samples of --dataset (8)")
    parser.add_argument("--clips", choices=CLIPS, help="format of the moving pictures of clips (default: gif)")
    parser.add_argument("--batch-size", type=positive, default=8, help="batch size (default: 8)")
    parser.add_argument("--device", help="cuda or cpu (default: cuda if there is a GPU)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionAction, metavar="KEY=VALUE", help="settings to change in the config"
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error in the config")
    pretrained = parser.add_argument_group("options for pre-trained models")
    pretrained.add_argument("--mask-ratio", type=float, help="share of masked tokens (default: the config's)")
    pretrained.add_argument("--seed", type=int, help="seed of the masks (default: 0)")
    pretrained.add_argument(
        "--attention", action="store_true", help="also draw the masked tokens' attention (roll-out)"
    )
    fine_tuned = parser.add_argument_group("options for fine-tuned models")
    fine_tuned.add_argument("--top", type=positive, metavar="K", help="number of classes to print (default: 3)")
    fine_tuned.add_argument("--least-score", type=score, help="draw only boxes with this score or more (default: 0.3)")
    fine_tuned.add_argument(
        "--class-names",
        metavar="FILE",
        help="text file with one name per line, class 0 first (default: names from the checkpoint and config)",
    )
    actions = parser.add_argument_group("options for action detection in a video")
    actions.add_argument(
        "--boxes",
        metavar="FILE",
        help="CSV of boxes: seconds, x1, y1, x2, y2 as fractions of the frame, and an optional score",
    )
    actions.add_argument("--detector", metavar="CONFIG", help="config of an mmdet model that finds the boxes instead")
    actions.add_argument("--detector-checkpoint", metavar="FILE", help="weights of the detector")
    actions.add_argument(
        "--detector-class", metavar="NAME", help="class of the boxes to use (default: person, if the detector has it)"
    )
    actions.add_argument("--every", type=seconds, metavar="SECONDS", help="time between two key frames (default: 1)")
    either = parser.add_argument_group("options for similar files, with every kind of model")
    either.add_argument("--neighbours", type=positive, metavar="K", help="draw the K files most similar to each input")
    either.add_argument("--among", metavar="FOLDER", help="folder of the files to compare (default: the training data)")
    args = parser.parse_args(arguments)
    inputs = filter(None, (*args.inputs, args.among))
    files = (missing_config(args.config), missing_checkpoint(args.checkpoint), *map(missing_input, inputs))
    if refuse(_wrong_choice(args), *files):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.apis.pictures import Choice, Wishes, visualize
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.running.command_line import chosen_device, run_tool

    def work() -> None:
        cfg = load_config(args.config, options=args.cfg_options)
        indices = None if args.indices is None else tuple(args.indices)
        wishes = Wishes(
            inputs=args.inputs,
            choice=args.dataset and Choice(args.dataset, indices, args.count or Choice.count),
            mask_ratio=args.mask_ratio,
            seed=args.seed,
            attention=args.attention,
            neighbours=args.neighbours,
            among=args.among,
            top=args.top,
            least_score=args.least_score,
            class_names=args.class_names,
            clips=args.clips,
            boxes=args.boxes,
            detector=args.detector,
            detector_checkpoint=args.detector_checkpoint,
            detector_class=args.detector_class,
            every=args.every,
            batch_size=args.batch_size,
            device=chosen_device(args.device),
        )
        for path in visualize(cfg, args.checkpoint, args.out, wishes):
            print(path)

    return run_tool(work, args.traceback)


def _wrong_choice(args: argparse.Namespace) -> str | None:
    """Describe the problem of arguments that choose samples and contradict each other."""
    if bool(args.inputs) == (args.dataset is not None):
        return "give either files and folders, or --dataset train, val or test, and not both."
    for option, value in (("--indices", args.indices), ("--count", args.count)):
        if value is not None and args.dataset is None:
            return f"{option} chooses samples of a data set; give --dataset train, val or test too."
    if args.indices is not None and args.count is not None:
        return "--indices and --count are both given; give one of them."
    return None


if __name__ == "__main__":
    sys.exit(main())
