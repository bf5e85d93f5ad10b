"""Export a model, or only its backbone, to ONNX or torch.export, and compare the outputs of the file and the model."""

import sys
from pathlib import Path

from maskfeat_cli.arguments import build_parser
from maskfeat_cli.given_files import missing_checkpoint, missing_config, refuse

EXAMPLE = """example:
  python tools/export_model.py configs/recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py \\
      work_dirs/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400/epoch_100.pth mvit_s_k400.onnx

  The backbone of a pre-trained model, which computes the same vector as maskfeat extract:
  python tools/export_model.py configs/pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py \\
      work_dirs/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400/epoch_300.pth mvit_s.onnx --backbone

OUT ends in .onnx for ONNX or in .pt2 for torch.export. See docs/export.md."""


def main(arguments: list[str] | None = None) -> int:
    """Export and return the exit status."""
    parser = build_parser(__doc__, EXAMPLE, launcher=False)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="weights of the model: a path or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write, .onnx or .pt2")
    parser.add_argument(
        "--backbone",
        action="store_true",
        help="export only the backbone (frames to features), from a config of pre-training or fine-tuning",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the inputs (default: as in the config's test pipeline)",
    )
    args = parser.parse_args(arguments)
    if refuse(missing_config(args.config), missing_checkpoint(args.checkpoint)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.apis.export import export_model
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options)
        export = export_model(cfg, args.checkpoint, args.out, args.backbone, args.size)
        sizes = " x ".join(map(str, export.shape))
        print(f"{export.path}: batches of {sizes} to {export.description}")
        print(
            f"The outputs differ from the model's by at most {export.difference:.1e} (allowed: {export.tolerance:.0e})."
        )
        if export.remark:
            print(export.remark)

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
