"""Pictures of docs/concepts.md: masked tokens, HOG, and predictions of the demo's shipped models."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from maskfeat_plugin.datasets.moving_digits import build_moving_digits
from maskfeat_plugin.datasets.moving_digits.sources import load_photos
from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.files import writing
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from maskfeat_plugin.visualization import assemble_hog, compose, draw_hog
from maskfeat_plugin.visualization.masks import hide_tokens
from maskfeat_plugin.visualization.panels import strip
from projects.demo.orchestrate import DATA
from projects.demo.tasks import IMAGE, VIDEO
from projects.demo.train import draw_predictions

# As in the full-size configs for images
GRID, TOKEN = (14, 14), 16
HOG: dict[str, Any] = dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8)
MASK: dict[str, Any] = dict(type="maskfeat.BlockMaskGenerator", token_grid=GRID, mask_ratio=0.4)
_SCALE = 1.5  # size of the drawn photograph relative to the model's input
_MEAN, _STD = 114.75, 57.375

# 32 values per colour look almost the same as 256 and halve the size of the files
_COLOR_BITS = np.uint8(0b11111000)

# Part of scikit-learn's second photograph, a flower (left, top, right, bottom), and the token of the close-up
_CROP, _CLOSE_UP = (150, 30, 510, 390), (3, 8)
# Samples of the test split
_FRAMES, _CLIPS = (3, 7, 11, 15), (1,)


def write_concept_pictures(out: Path, seed: int = 0) -> list[Path]:
    """Draw the pictures into a folder. The same seed gives the same pictures.

    Args:
        out (Path): The folder. It is created if it is missing.
        seed (int): Seed of the mask. Defaults to 0.

    Returns:
        list[Path]: ``concepts_steps.png``, ``concepts_token.png``, ``concepts_frames.png``, ``concepts_clip.png``.

    Raises:
        ConfigError: If the folder cannot be written to, the seed is negative, or packages of the data are missing.
    """
    if seed < 0:
        raise ConfigError(f"--seed={seed} has to be 0 or more.")
    paths = [out / f"concepts_{name}.png" for name in ("steps", "token", "frames", "clip")]
    try:
        out.mkdir(parents=True, exist_ok=True)  # fail before any work
        photo = sample_photo()
        _save(draw_steps(photo, seed), paths[0])
        with writing(paths[1]) as unfinished:  # no version in the file, so that all versions write the same bytes
            draw_token(photo).savefig(unfinished, format="png", metadata=dict(Software=None))
        frames, clip = predictions()
        _save(frames, paths[2])
        _save(clip, paths[3])
    except ImportError as error:
        raise ConfigError(str(error)) from error
    except WriteError:
        raise
    except OSError as error:
        raise ConfigError(f"--out={str(out)!r}: cannot write there ({error.strerror}); name another folder.") from error
    return paths


def sample_photo() -> np.ndarray:
    """Return a photograph from scikit-learn, uint8 (224, 224, 3) in RGB."""
    side = GRID[0] * TOKEN
    return np.asarray(Image.fromarray(load_photos()[1]).crop(_CROP).resize((side, side), Image.Resampling.BICUBIC))


def histograms(photo: np.ndarray) -> np.ndarray:
    """Compute HOG of all cells of an image.

    Args:
        photo (np.ndarray): RGB, uint8 (H, W, 3).

    Returns:
        np.ndarray: float32 (3, nbins, rows, cols).
    """
    inputs = (torch.from_numpy(photo.transpose(2, 0, 1).astype(np.float32)) - _MEAN) / _STD
    everything = torch.ones(1, 1, *GRID, dtype=torch.bool)
    features = MODELS.build(HOG)(inputs[None], everything)  # (L, D)
    cells = TOKEN // HOG["cell_size"]
    return assemble_hog(features, everything[0], HOG["nbins"], (cells, cells))[0]


def draw_steps(photo: np.ndarray, seed: int) -> np.ndarray:
    """Draw a photograph, its token grid, the masked photograph, its HOG, and the HOG to predict.

    Args:
        photo (np.ndarray): RGB, uint8 (224, 224, 3).
        seed (int): Seed of the mask.

    Returns:
        np.ndarray: RGB picture, uint8 (height, width, 3).
    """
    mask = TRANSFORMS.build(dict(MASK, seed=seed))({})["mask"]  # (H', W')
    pixels = round(HOG["cell_size"] * _SCALE)
    hog = draw_hog(histograms(photo), pixels, max_value=0.6)
    side = len(hog)
    image = np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BICUBIC))
    lines = image.copy()
    step = side // GRID[0]
    lines[step::step] = lines[:, step::step] = 255
    seen = compose(
        {
            "1. The image": image,
            "2. Split into 14 x 14 tokens": lines,
            "3. 40 % of the tokens masked": hide_tokens(image[None], mask)[0],
        }
    )
    predicted = compose({"4. HOG of all tokens": hog, "5. To predict: HOG of masked tokens": _only(hog, mask)})
    right = np.full((len(predicted), seen.shape[1] - predicted.shape[1], 3), 255, np.uint8)
    return np.concatenate([seen, np.concatenate([predicted, right], axis=1)])


def draw_token(photo: np.ndarray) -> Figure:
    """Draw a close-up of one token: its pixels, its cells as strokes, and the histograms of one colour as bars.

    Args:
        photo (np.ndarray): RGB, uint8 (224, 224, 3).

    Returns:
        Figure: The drawing.
    """
    row, column = _CLOSE_UP
    cells = TOKEN // HOG["cell_size"]
    pixels = photo[row * TOKEN : (row + 1) * TOKEN, column * TOKEN : (column + 1) * TOKEN]
    hog = histograms(photo)[:, :, row * cells : (row + 1) * cells, column * cells : (column + 1) * cells]
    figure = Figure(figsize=(9.6, 3.1), dpi=100, layout="constrained")
    left, middle, right = figure.subfigures(1, 3).flat
    for part, picture, title in (
        (left, pixels, "A token: 16 x 16 pixels,\n2 x 2 cells"),
        (middle, draw_hog(hog, 96, max_value=0.8), "The mean of its 3 colours:\na stroke for each direction"),
    ):
        axes = part.subplots()
        axes.imshow(picture, interpolation="nearest")
        middle_line = len(picture) / 2 - 0.5
        axes.axhline(middle_line, color="#ffc440")
        axes.axvline(middle_line, color="#ffc440")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    right.suptitle("Red: 4 histograms of 9 directions,\neach of length 1", fontsize=10)
    angles = (np.arange(HOG["nbins"]) + 0.5) * 180 / HOG["nbins"]
    for axes, values in zip(right.subplots(cells, cells, sharex=True, sharey=True).flat, _by_cell(hog[0]), strict=True):
        axes.bar(angles, values, width=16, color="#0b6fb8")
        axes.set(xticks=[0, 90, 180], ylim=(0, 1), yticks=[0, 1])
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Draw predictions of the demo's shipped models for frames and a clip of the test split.

    Returns:
        tuple[np.ndarray, np.ndarray]: RGB pictures, uint8 (height, width, 3).
    """
    # the settings of the demo, so that the test split has the same digit images
    few = dataclasses.replace(DATA, num_train=32, num_val=8, num_test=8, labelled=(8,))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "moving_digits")
        build_moving_digits(root, few, workers=1, progress=False)
        images, clips = (
            draw_predictions(pretraining, str(pretraining.shipped_weights), indices, root)
            for pretraining, indices in ((IMAGE, _FRAMES), (VIDEO, _CLIPS))
        )
    frames = {title: strip(np.concatenate([panel[title] for panel in images]), len(images)) for title in images[0]}
    return compose(frames), compose({title: strip(steps, len(steps)) for title, steps in clips[0].items()})


def _save(picture: np.ndarray, path: Path) -> None:
    with writing(path) as unfinished:
        Image.fromarray(picture & _COLOR_BITS).save(unfinished, "PNG", optimize=True)


def _only(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a picture that is kept at masked tokens and dark grey elsewhere."""
    step = len(picture) // mask.shape[0]
    masked = mask.repeat(step, axis=0).repeat(step, axis=1)[..., None]
    return np.where(masked, picture, np.uint8(70))


def _by_cell(hog: np.ndarray) -> np.ndarray:
    """Reshape (nbins, rows, cols) -> (rows * cols, nbins)."""
    return hog.reshape(len(hog), -1).T
