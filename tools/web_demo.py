"""Serve a page on which you drop an image or a clip, set the mask ratio, and see the predictions of a model.

The page is served at 127.0.0.1, so only this machine can open it. It loads nothing from other machines.
"""

import argparse
import sys

from maskfeat_cli.arguments import CONFIG_HELP
from maskfeat_cli.given_files import missing_checkpoint, missing_config, refuse

EXAMPLE = """examples:
  python tools/web_demo.py
  python tools/web_demo.py configs/pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py epoch_300.pth

Without CONFIG and CHECKPOINT, the page uses the demo's two models, for images and for clips. See docs/web_demo.md."""


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until interrupted, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", nargs="?", help=f"{CONFIG_HELP}, of pre-training")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="weights of the model: a path or a URL")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the first free port from 7860)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--device", help="cuda or cpu (default: cuda if there is a GPU)")
    args = parser.parse_args(arguments)
    wrong = None
    if args.config is not None and args.checkpoint is None:
        wrong = f"CHECKPOINT is missing. Give the weights of {args.config} too."
    if refuse(wrong, missing_config(args.config), missing_checkpoint(args.checkpoint)):
        return 1

    # imported after the arguments were checked: these imports take seconds
    from maskfeat_plugin.apis.inferencer import MaskFeatInferencer
    from maskfeat_plugin.apis.web_demo import SHIPPED, import_gradio, serve
    from maskfeat_plugin.running.command_line import chosen_device, run_tool

    def work() -> None:
        models: list[tuple[str, str | None]] = [(args.config, args.checkpoint)]
        if args.config is None:
            models = [(name, None) for name in SHIPPED]
        import_gradio()  # before any work
        device = chosen_device(args.device)
        inferencers = [MaskFeatInferencer(model, weights, device, show_progress=False) for model, weights in models]
        serve(inferencers, args.port, args.open)

    return run_tool(work)


if __name__ == "__main__":
    sys.exit(main())
