"""Web page, served to this machine only, that shows the predictions of a pre-trained model for a file."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from maskfeat_plugin.config.input_kinds import IMAGES, SOUNDS, VIDEOS, VOLUMES
from maskfeat_plugin.config.input_pipeline import list_inputs
from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.visualization import MaskFeatVisualizer, draw_prediction, strip

from .inferencer import MaskFeatInferencer
from .notebook_results import loss_text
from .pictures import predict
from .web_guard import LARGEST_REQUEST, LoopbackGuard

if TYPE_CHECKING:
    import gradio

SHIPPED = ("maskfeat_vit-tiny_moving-digits", "maskfeat_mvit-tiny_moving-digits")
"""Names of the demo's models. Their weights are shipped with their configs."""

HOST = "127.0.0.1"

_TABS = {IMAGES: "Image", VIDEOS: "Clip", SOUNDS: "Sound", VOLUMES: "Volume"}
# Title of each picture on the page -> its name in draw_prediction, in the order of the page
_PICTURES = {
    "Masked input": "masked input",
    "Prediction": "prediction",
    "Target": "target",
    "Original": "original",
}
_ABOUT = """# MaskFeat: predict the masked parts

The grey parts are masked: the model does not see them and predicts their features. The demo's models predict edges
(HOG). The strokes in each small square run along its edges; a brighter stroke means a stronger edge. Amber strokes are
the prediction, white strokes the target."""
# gradio copies inputs and pictures: every 600 seconds, delete the copies that are older than 3600 seconds
_DELETE_CACHE = (600, 3600)
# without "share", which uploads a picture
_BUTTONS = ["download", "fullscreen"]


def import_gradio() -> ModuleType:
    """Import gradio with its analytics and telemetry turned off.

    Returns:
        ModuleType: The package.

    Raises:
        ConfigError: If gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # gradio reads this when it is imported
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
    """Build the page, with a tab for each model.

    Args:
        inferencers (Sequence[MaskFeatInferencer]): The models, for images, clips, sounds or volumes.

    Returns:
        gradio.Blocks: The page. Clients of gradio call its functions ``/image``, ``/clip``, ``/sound`` and ``/volume``;
        gradio numbers them if there are several models for one kind.

    Raises:
        ConfigError: If gradio is not installed.
    """
    gr = import_gradio()
    with gr.Blocks(title="MaskFeat", analytics_enabled=False, delete_cache=_DELETE_CACHE) as page:
        gr.Markdown(_ABOUT)
        for inferencer in inferencers:
            with gr.Tab(_TABS[inferencer.kind]):
                _add_model(gr, inferencer)
    return page


def serve(
    inferencers: Sequence[MaskFeatInferencer], port: int | None = None, open_browser: bool = False, block: bool = True
) -> str:
    """Serve the page on the loopback interface until the user interrupts it.

    Args:
        inferencers (Sequence[MaskFeatInferencer]): The models.
        port (int, optional): The port. Defaults to None: the first free port from 7860.
        open_browser (bool): Whether to open the page in a browser. Defaults to False.
        block (bool): Whether to return only after the server has stopped. Defaults to True.

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
    """Add the inputs and pictures of a model to the page."""
    with gr.Row():
        with gr.Column(scale=1):
            given = _add_input(gr, inferencer)
            if examples := _examples(inferencer):
                gr.Examples(
                    [[str(path)] for path in examples], given, label="Examples: click one", cache_examples=False
                )
            ratio = gr.Slider(0.05, 0.95, _mask_ratio(inferencer), step=0.05, label="Mask ratio")
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**32 - 1, label="Seed of the mask")
        with gr.Column(scale=3):
            titles = list(_PICTURES)
            rows = [titles[:2], titles[2:]] if not inferencer.kind.is_clip else [[title] for title in titles]
            moving = _add_picture(gr, "All pictures, animated", type="filepath") if inferencer.kind.is_clip else None
            found = []
            for row in rows:
                with gr.Row():
                    found += [_add_picture(gr, title, height=None if inferencer.kind.is_clip else 260) for title in row]
            if moving is not None:
                found.append(moving)
            with gr.Row():
                found.append(gr.Textbox(label="Loss of this prediction (0 is perfect)", interactive=False))
                found.append(
                    gr.Textbox(label="Baseline: loss of predicting the mean target everywhere", interactive=False)
                )
    gr.on(
        [given.change, ratio.release, seed.change],
        _predictor(gr, inferencer),
        [given, ratio, seed],
        found,
        api_name=_TABS[inferencer.kind].lower(),
        show_progress="minimal",
    )


def _add_input(gr: ModuleType, inferencer: MaskFeatInferencer) -> "gradio.blocks.Block":
    """Add the field for an image, a clip, a sound or a volume."""
    label = _TABS[inferencer.kind]
    if inferencer.kind is IMAGES:
        mode = "L" if sample_channels(inferencer.config) == 1 else "RGB"
        return gr.Image(label=label, type="numpy", image_mode=mode, sources=["upload", "clipboard"], height=280)
    if inferencer.kind is VIDEOS:
        return gr.Video(label=label, sources=["upload"], height=280, autoplay=True, loop=True)
    if inferencer.kind is SOUNDS:
        return gr.Audio(label=label, type="filepath", sources=["upload"])
    return gr.File(label=label, type="filepath", file_types=list(inferencer.kind.endings))


def _examples(inferencer: MaskFeatInferencer) -> list[Path]:
    """List example inputs for a model: the files in the folder ``examples`` beside its config."""
    folder = Path(inferencer.config.filename or "").parent / "examples"
    return [path for path in sorted(folder.glob("*")) if path.suffix.lower() in inferencer.kind.endings]


def _add_picture(gr: ModuleType, title: str, **settings: object) -> "gradio.Image":
    """Add a picture with its title above it, so that the title covers no part of the picture."""
    with gr.Column(min_width=240):
        gr.Markdown(f"**{title}**")
        return gr.Image(label=title, show_label=False, format="png", interactive=False, buttons=_BUTTONS, **settings)


def _predictor(gr: ModuleType, inferencer: MaskFeatInferencer) -> Callable:
    """Build the function that the page calls. It turns an input, a mask ratio and a seed into the pictures."""
    visualizer = MaskFeatVisualizer()
    generator = inferencer.model.target_generator
    count = len(_PICTURES) + 2 + inferencer.kind.is_clip

    def predict_pictures(given: np.ndarray | str | None, ratio: float, seed: float) -> Iterator[list]:
        if given is None:
            yield [None] * count
            return
        try:
            items = list_inputs(given, inferencer.kind, inferencer.title, sample_channels(inferencer.config))
            (sample,) = predict(inferencer, items, float(ratio), int(seed or 0))
        except ConfigError as error:
            raise gr.Error(str(error)) from error
        pictures = draw_prediction(sample.frames, sample, generator)
        found = _strips(pictures)
        baseline = inferencer.model.head.baseline(sample.pred_features, sample.target_features)
        losses = [loss_text(sample.loss), loss_text(baseline)]
        if not inferencer.kind.is_clip:
            yield [*found, *losses]
            return
        with tempfile.TemporaryDirectory() as folder:  # gradio takes a copy
            path = Path(folder, "moving.gif")
            visualizer.add_datasample("clip", sample.frames, sample, generator, out_file=path)
            yield [*found, str(path), *losses]

    return predict_pictures


def _strips(pictures: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return one picture for each title of :data:`_PICTURES`; stack the pictures of several targets vertically."""
    found = []
    for name in _PICTURES.values():
        parts = [strip(frames) for title, frames in pictures.items() if title == name or title.endswith(f" {name}")]
        found.append(np.concatenate(parts))
    return found


def _mask_ratio(inferencer: MaskFeatInferencer) -> float:
    """Return the mask ratio of the config, rounded to a step of the slider."""
    ratios = [step.get("mask_ratio") for step in inferencer.pipeline if str(step["type"]).endswith("MaskGenerator")]
    return round(20 * next((ratio for ratio in ratios if ratio), 0.4)) / 20
