"""Comparison of the pre-training steps of two configs."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor

from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.config.training_inputs import collate, input_size, mask_generator
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from maskfeat_plugin.running.log_streams import quiet

from .measuring import Comparison, Work


def compare_steps(ours: Config, theirs: Config, mask_ratio: float, batch_size: int, device: torch.device) -> Comparison:
    """Compare training steps of two configs on the same random inputs and masks.

    A step includes normalisation, target, forward pass, backward pass and optimizer, but no reading of files. The mask
    generator of the second config draws the masks, with the given ratio. If the configs have different input sizes,
    each has its own inputs and masks.

    Args:
        ours (Config): A pre-training config of this package.
        theirs (Config): Another pre-training config with the same kind of inputs, images or clips.
        mask_ratio (float): Share of masked tokens.
        batch_size (int): Inputs per step. If a config makes several views, they are views of fewer samples.
        device (torch.device): Device of the steps. Mixed precision of a config is used on a GPU only.

    Returns:
        Comparison: Comparison of both steps.

    Raises:
        ConfigError: If a config has no mask generator or no input size, or one takes images and the other clips.
    """
    size, other_size = input_size(ours), input_size(theirs)
    if len(size) != len(other_size):
        raise ConfigError(
            f"{theirs.filename}: its input size is {other_size}, but {ours.filename} has {size}. Give two configs of "
            "images or two of clips."
        )
    masks = {size: mask_generator(ours), other_size: mask_generator(theirs)}  # the second one's, if both sizes agree

    def build() -> tuple[Work, Work]:
        first, second = (
            training_step(cfg, *_random_batch(sample_channels(cfg), size, masks[size], mask_ratio, batch_size), device)
            for cfg, size in ((ours, size), (theirs, other_size))
        )
        return first, second

    job = f"{_name(ours)}, {batch_size} x {' x '.join(map(str, size))}, {mask_ratio:.0%} masked"
    return Comparison(job, _name(theirs), build)


def _random_batch(
    channels: int, size: tuple[int, ...], masks: dict, mask_ratio: float, batch_size: int
) -> tuple[list[Tensor], list[DataSample]]:
    """Draw uint8 inputs (channels, *size), and masks of a mask generator; the same ones for the same arguments."""
    draw = TRANSFORMS.build(dict(masks, mask_ratio=mask_ratio, seed=0))
    samples = [DataSample(mask=draw({"sample_idx": i})["mask"]) for i in range(batch_size)]
    random = torch.Generator().manual_seed(0)
    return [torch.randint(256, (channels, *size), generator=random, dtype=torch.uint8) for _ in samples], samples


def training_step(
    cfg: Config, inputs: list[Tensor], samples: list[DataSample], device: torch.device
) -> Callable[[], dict[str, Tensor]]:
    """Build model and optimizer of a config, and return a function that trains them for one step.

    The weights are not initialised, since this would log every parameter and does not change the time.

    Args:
        cfg (Config): A pre-training config.
        inputs (list[Tensor]): uint8 images (3, H, W) or clips (3, T, H, W).
        samples (list[DataSample]): The mask of each input.
        device (torch.device): Device of the steps.

    Returns:
        Callable[[], dict[str, Tensor]]: Trains for one step and returns the losses.
    """
    settings = cfg.optim_wrapper.copy()
    if device.type == "cpu":
        settings["type"] = "OptimWrapper"
    with quiet(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        optim_wrapper = build_optim_wrapper(model.to(device).train(), settings)
    batch = collate(cfg, inputs, samples)
    return lambda: model.train_step(batch, optim_wrapper)


def _name(cfg: Config) -> str:
    """Return the model part of the file's name: the part before the batch size or the data set."""
    return re.split(r"_\d+xb|_moving-digits", Path(cfg.filename).stem)[0]
