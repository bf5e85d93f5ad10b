"""Predictions of a pre-trained model for masked parts, and where it looks for them, as files."""

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
    """Let a pre-trained model predict, one batch after the other.

    Args:
        inferencer (MaskFeatInferencer): The model and its pipeline.
        items (Sequence[Input]): Files or arrays.
        mask_ratio (float, optional): Share of the tokens to hide. Defaults to None, that of the config.
        seed (int): Seed of the masks. Defaults to 0.
        batch_size (int): How many the model sees at once. Defaults to 8.
        attention (bool): Whether to follow the attention of the masked tokens. Defaults to False.

    Yields:
        BaseDataElement: For each item what :meth:`.MaskFeatInferencer.forward` gives, ``frames`` among it, and, if
        asked for, ``attention``, float32 (T', H', W').

    Raises:
        ConfigError: If an item cannot be read, an argument does not fit, or the backbone's attention cannot be
            followed.
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
    """Write a picture of masked input, prediction, target and original of each item, and of a clip a moving one.

    Args:
        inferencer (MaskFeatInferencer): As in :func:`predict`.
        items (Sequence[Input]): As in :func:`predict`.
        stems (Sequence[str]): What the files about an item are called, without their ending.
        out (Path): Folder to write to.
        mask_ratio (float, optional): As in :func:`predict`. Defaults to None.
        seed (int): As in :func:`predict`. Defaults to 0.
        batch_size (int): As in :func:`predict`. Defaults to 8.
        attention (bool): As in :func:`predict`. Defaults to False.
        clips (str): "gif" or "mp4". Defaults to "gif".

    Returns:
        list[Path]: The files.

    Raises:
        ConfigError: As :func:`predict`.
    """
    visualizer = MaskFeatVisualizer()
    target_generator = inferencer.model.target_generator
    written = []
    samples = predict(inferencer, items, mask_ratio, seed, batch_size, attention)
    for sample, stem in zip(tqdm(samples, "Looking", len(items), unit="input"), stems, strict=True):
        for ending in ("png", clips) if inferencer.takes_clips else ("png",):
            path = out / f"{stem}.{ending}"
            visualizer.add_datasample(stem, sample.frames, sample, target_generator, out_file=path)
            written.append(path)
    return written


def _attention(inferencer: MaskFeatInferencer, batch: dict) -> torch.Tensor:
    """Compute the attention of the masked tokens to each token, (N, T', H', W') on the CPU."""
    model = inferencer.model
    data = model.data_preprocessor(batch, False)
    mask = data["mask"].bool()
    query = mask if mask.ndim == 4 else mask[:, None]
    try:
        return attention_rollout(model.backbone, data["inputs"], mask, query).cpu()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--attention: {error}") from error
