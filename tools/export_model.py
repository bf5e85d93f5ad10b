"""Export a fine-tuned classifier or recognizer to ONNX or torch.export, and compare its scores with the model's."""

import sys
from pathlib import Path

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_plugin.apis import build_parser, load_config, run_tool
from maskfeat_plugin.apis.export import TOLERANCE, export_model

EXAMPLE = """example:
  python tools/export_model.py configs/recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py \\
      work_dirs/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400/epoch_100.pth mvit_s_k400.onnx

OUT ends in .onnx, or in .pt2 for torch.export. See docs/export.md."""


def main(arguments: list[str] | None = None) -> int:
    """Export; returns the exit status."""
    parser = build_parser(__doc__, EXAMPLE, launcher=False)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="fine-tuned weights: a path or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write, .onnx or .pt2")
    args = parser.parse_args(arguments)

    def work() -> None:
        cfg = load_config(args.config, args.work_dir, args.cfg_options)
        export = export_model(cfg, args.checkpoint, args.out)
        sizes = " x ".join(map(str, export.shape))
        print(f"{export.path}: batches of {sizes} to scores of {export.num_classes} classes")
        print(
            f"Its scores are the model's: their logarithms differ by at most {export.difference:.1e} "
            f"(allowed: {TOLERANCE:.0e})."
        )

    return run_tool(work, args.traceback)


if __name__ == "__main__":
    sys.exit(main())
