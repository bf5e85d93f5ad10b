"""Pictures of a pre-trained model's predictions for the masked parts of inputs, and of its attention."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.structures import BaseDataElement
from tqdm import tqdm

from maskfeat_plugin.config.input_pipeline import Input
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.visualization import MaskFeatVisualizer, attention_rollout

from ..inferencer import MaskFeatInferencer


def predict(
    inferencer: MaskFeatInferencer,
    items: Sequence[Input],
    mask_ratio: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    attention: bool = False,
) -> Iterator[BaseDataElement]:
    """Predict the masked parts of inputs with a pre-trained model, one batch after the other.

    Args:
        inferencer (MaskFeatInferencer): The model and its pipeline.
        items (Sequence[Input]): Files or arrays.
        mask_ratio (float, optional): Share of the tokens to mask. Defaults to None, the mask ratio of the config.
        seed (int): Seed of the masks. Defaults to 0.
        batch_size (int): Number of inputs that the model takes at once. Defaults to 8.
        attention (bool): Whether to compute the attention of the masked tokens. Defaults to False.

    Yields:
        BaseDataElement: The result of :meth:`.MaskFeatInferencer.forward` for each item, including ``frames``, and with
        ``attention``, float32 (T', H', W'), if it was asked for.

    Raises:
        ConfigError: If an item cannot be read, an argument does not fit, or the attention of the backbone cannot be
            computed.
    """
    for batch in inferencer.preprocess(items, batch_size, mask_ratio, seed=seed):
        samples = inferencer.forward(batch)
        if attention:
            for sample, heat in zip(samples, _attention(inferencer, batch), strict=True):
                sample.set_field(heat, "attention")
        yield from samples


def write_predictions(
    inferencer: MaskFeatInferencer,
    items: Sequence[Input],
    stems: Sequence[str],
    out: Path,
    mask_ratio: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    attention: bool = False,
    clips: str = "gif",
) -> list[Path]:
    """Write a picture of masked input, prediction, target and original of each item, and for clips an animation too.

    Args:
        inferencer (MaskFeatInferencer): See :func:`predict`.
        items (Sequence[Input]): See :func:`predict`.
        stems (Sequence[str]): Name of the files that are written about each item, without their ending.
        out (Path): Folder to write to.
        mask_ratio (float, optional): See :func:`predict`. Defaults to None.
        seed (int): See :func:`predict`. Defaults to 0.
        batch_size (int): See :func:`predict`. Defaults to 8.
        attention (bool): See :func:`predict`. Defaults to False.
        clips (str): Format of the animations, "gif" or "mp4". Defaults to "gif".

    Returns:
        list[Path]: The files.

    Raises:
        ConfigError: See :func:`predict`.
    """
    visualizer = MaskFeatVisualizer()
    target_generator = inferencer.model.target_generator
    written = []
    samples = predict(inferencer, items, mask_ratio, seed, batch_size, attention)
    for sample, stem in zip(tqdm(samples, "Looking", len(items), unit="input"), stems, strict=True):
        for ending in ("png", clips) if inferencer.kind.is_clip else ("png",):
            path = out / f"{stem}.{ending}"
            visualizer.add_datasample(stem, sample.frames, sample, target_generator, out_file=path)
            written.append(path)
    return written


def _attention(inferencer: MaskFeatInferencer, batch: dict) -> torch.Tensor:
    """Compute the attention of the masked tokens to each token, (N, T', H', W'), on the CPU."""
    model = inferencer.model
    data = model.data_preprocessor(batch, False)
    mask = data["mask"].bool()
    query = mask if mask.ndim == 4 else mask[:, None]
    try:
        return attention_rollout(model.backbone, data["inputs"], mask, query).cpu()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--attention: {error}") from error
