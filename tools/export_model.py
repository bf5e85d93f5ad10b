"""Export a model, or its backbone alone, to ONNX or torch.export, and compare what the file computes with the model."""

import sys
from pathlib import Path

from maskfeat_cli.arguments import build_parser
from maskfeat_cli.given_files import missing_checkpoint, missing_config, refuse

EXAMPLE = """example:
  python tools/export_model.py configs/recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py \\
      work_dirs/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400/epoch_100.pth mvit_s_k400.onnx

the backbone of a pre-trained model, which gives the vector of maskfeat extract:
  python tools/export_model.py configs/pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py \\
      work_dirs/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400/epoch_300.pth mvit_s.onnx --backbone

OUT ends in .onnx, or in .pt2 for torch.export. See docs/export.md."""


def main(arguments: list[str] | None = None) -> int:
    """Export; returns the exit status."""
    parser = build_parser(__doc__, EXAMPLE, launcher=False)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="weights of the model: a path or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write, .onnx or .pt2")
    parser.add_argument(
        "--backbone",
        action="store_true",
        help="export the backbone alone, of any config, that of pre-training too: frames to features",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the inputs (default: those of the config's test pipeline)",
    )
    args = parser.parse_args(arguments)
    if refuse(missing_config(args.config), missing_checkpoint(args.checkpoint)):
        return 1

    # not before the arguments are known to be right: these imports take seconds
    from maskfeat_plugin.apis.export import export_model
    from maskfeat_plugin.config.load import load_config
    from maskfeat_plugin.running.command_line import run_tool

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options)
        export = export_model(cfg, args.checkpoint, args.out, args.backbone, args.size)
        sizes = " x ".join(map(str, export.shape))
        print(f"{export.path}: batches of {sizes} to {export.description}")
        print(f"It computes what the model does, to {export.difference:.1e} ({export.tolerance:.0e} is allowed).")
        if export.remark:
            print(export.remark)

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
