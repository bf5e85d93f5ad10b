"""A page on this machine alone: drop an image or a clip, move the mask ratio, see what a pre-trained model predicts."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from maskfeat_plugin.config.input_pipeline import list_inputs
from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, VIDEO_ENDINGS
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.visualization import MaskFeatVisualizer, draw_prediction, strip

from .inferencer import MaskFeatInferencer
from .notebook_results import loss_text
from .pictures import predict
from .web_guard import LARGEST_REQUEST, LoopbackGuard

if TYPE_CHECKING:
    import gradio

SHIPPED = ("maskfeat_vit-tiny_moving-digits", "maskfeat_mvit-tiny_moving-digits")
"""The demo's models, whose weights come with their configs."""

HOST = "127.0.0.1"

# In the order of the story: its title on the page, and its name in draw_prediction
_PICTURES = {
    "What the model sees": "masked input",
    "What it predicts": "prediction",
    "What is there": "target",
    "The whole": "original",
}
_ABOUT = """# MaskFeat: predict what is masked

The grey parts are masked from the model, and it predicts features of them: of the demo's models, the edges. A stroke
lies along the edges of a small square and is the brighter the stronger they are (HOG). Amber strokes are predicted,
white ones are there."""
# What gradio copies of inputs and pictures is deleted after an hour, looked at every ten minutes
_DELETE_CACHE = (600, 3600)
# Not "share", which uploads a picture
_BUTTONS = ["download", "fullscreen"]


def import_gradio() -> ModuleType:
    """Gradio without what it sends home.

    Returns:
        ModuleType: The package.

    Raises:
        ConfigError: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(
            "the web demo needs the package gradio: pip install 'maskfeat_plugin[web]', or pip install -r "
            "requirements/web.txt."
        ) from error
    return gradio


def build_page(inferencers: Sequence[MaskFeatInferencer]) -> "gradio.Blocks":
    """The page, with a tab a model.

    Args:
        inferencers (Sequence[MaskFeatInferencer]): The models, of images or of clips.

    Returns:
        gradio.Blocks: The page. Its functions are ``/image`` and ``/clip`` for gradio's clients, of several models of a
        kind numbered.

    Raises:
        ConfigError: If gradio is not installed.
    """
    gr = import_gradio()
    with gr.Blocks(title="MaskFeat", analytics_enabled=False, delete_cache=_DELETE_CACHE) as page:
        gr.Markdown(_ABOUT)
        for inferencer in inferencers:
            with gr.Tab("Clip" if inferencer.takes_clips else "Image"):
                _add_model(gr, inferencer)
    return page


def serve(
    inferencers: Sequence[MaskFeatInferencer], port: int | None = None, open_browser: bool = False, block: bool = True
) -> str:
    """Serve the page on the loopback interface, until interrupted.

    Args:
        inferencers (Sequence[MaskFeatInferencer]): The models.
        port (int, optional): The port. Defaults to None: the first free one from 7860.
        open_browser (bool): Whether to open it in a browser. Defaults to False.
        block (bool): Whether to wait here. Defaults to True.

    Returns:
        str: The address.

    Raises:
        ConfigError: If gradio is not installed or the port is taken.
    """
    page = build_page(inferencers)
    gr = import_gradio()
    from starlette.middleware import Middleware  # comes with gradio

    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=LARGEST_REQUEST,
            footer_links=[],
            app_kwargs=dict(middleware=[Middleware(LoopbackGuard)]),
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        )
    except OSError as error:
        raise ConfigError(f"--port {port}: {error}") from error
    print(f"MaskFeat's web demo is at {address} (Ctrl-C ends it)", flush=True)
    if block:
        page.block_thread()
    return address


def _add_model(gr: ModuleType, inferencer: MaskFeatInferencer) -> None:
    """The inputs and pictures of a model."""
    with gr.Row():
        with gr.Column(scale=1):
            if inferencer.takes_clips:
                given = gr.Video(label="Clip", sources=["upload"], height=280, autoplay=True, loop=True)
            else:
                given = gr.Image(label="Image", type="numpy", sources=["upload", "clipboard"], height=280)
            if examples := _examples(inferencer):
                gr.Examples(
                    [[str(path)] for path in examples], given, label="Examples: click one", cache_examples=False
                )
            ratio = gr.Slider(0.05, 0.95, _mask_ratio(inferencer), step=0.05, label="Mask ratio")
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**32 - 1, label="Seed of the mask")
        with gr.Column(scale=3):
            titles = list(_PICTURES)
            rows = [titles[:2], titles[2:]] if not inferencer.takes_clips else [[title] for title in titles]
            moving = _add_picture(gr, "All of it, moving", type="filepath") if inferencer.takes_clips else None
            found = []
            for row in rows:
                with gr.Row():
                    found += [_add_picture(gr, title, height=None if inferencer.takes_clips else 260) for title in row]
            if moving is not None:
                found.append(moving)
            with gr.Row():
                found.append(gr.Textbox(label="Loss of this prediction (0 if it were right)", interactive=False))
                found.append(gr.Textbox(label="Baseline: the loss of the mean target everywhere", interactive=False))
    gr.on(
        [given.change, ratio.release, seed.change],
        _predictor(gr, inferencer),
        [given, ratio, seed],
        found,
        api_name="clip" if inferencer.takes_clips else "image",
        show_progress="minimal",
    )


def _examples(inferencer: MaskFeatInferencer) -> list[Path]:
    """Files to try a model with: those in the folder ``examples`` beside its config."""
    folder = Path(inferencer.config.filename or "").parent / "examples"
    endings = VIDEO_ENDINGS if inferencer.takes_clips else IMAGE_ENDINGS
    return [path for path in sorted(folder.glob("*")) if path.suffix.lower() in endings]


def _add_picture(gr: ModuleType, title: str, **settings: object) -> "gradio.Image":
    """A picture with its title above, where it hides nothing."""
    with gr.Column(min_width=240):
        gr.Markdown(f"**{title}**")
        return gr.Image(label=title, show_label=False, format="png", interactive=False, buttons=_BUTTONS, **settings)


def _predictor(gr: ModuleType, inferencer: MaskFeatInferencer) -> Callable:
    """What the page calls: from an input, a mask ratio and a seed to the pictures."""
    visualizer = MaskFeatVisualizer()
    generator = inferencer.model.target_generator
    count = len(_PICTURES) + 2 + inferencer.takes_clips

    def predict_pictures(given: np.ndarray | str | None, ratio: float, seed: float) -> Iterator[list]:
        if given is None:
            yield [None] * count
            return
        try:
            items = list_inputs(given, inferencer.takes_clips, inferencer.title)
            (sample,) = predict(inferencer, items, float(ratio), int(seed or 0))
        except ConfigError as error:
            raise gr.Error(str(error)) from error
        pictures = draw_prediction(sample.frames, sample, generator)
        found = _strips(pictures)
        baseline = inferencer.model.head.baseline(sample.pred_features, sample.target_features)
        losses = [loss_text(sample.loss), loss_text(baseline)]
        if not inferencer.takes_clips:
            yield [*found, *losses]
            return
        with tempfile.TemporaryDirectory() as folder:  # gradio takes a copy
            path = Path(folder, "moving.gif")
            visualizer.add_datasample("clip", sample.frames, sample, generator, out_file=path)
            yield [*found, str(path), *losses]

    return predict_pictures


def _strips(pictures: dict[str, np.ndarray]) -> list[np.ndarray]:
    """One picture each of :data:`_PICTURES`; of several targets theirs one below the other."""
    found = []
    for name in _PICTURES.values():
        parts = [strip(frames) for title, frames in pictures.items() if title == name or title.endswith(f" {name}")]
        found.append(np.concatenate(parts))
    return found


def _mask_ratio(inferencer: MaskFeatInferencer) -> float:
    """That of the config, rounded to what the slider has."""
    ratios = [step.get("mask_ratio") for step in inferencer.pipeline if str(step["type"]).endswith("MaskGenerator")]
    return round(20 * next((ratio for ratio in ratios if ratio), 0.4)) / 20
