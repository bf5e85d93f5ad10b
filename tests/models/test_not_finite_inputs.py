"""Inputs that are NaN or infinite in masked tokens: the target or the loss becomes NaN, and nothing else fails."""

import copy
import random
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.visualization import draw_prediction

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_NAMES = (
    "demo/maskfeat_vit-tiny_moving-digits.py",
    "demo/maskfeat_mvit-tiny_moving-digits.py",
    "efficient/maskfeat-local_vit-tiny_moving-digits.py",
    "efficient/maskfeat-local_mvit-tiny_moving-digits.py",
    "efficient/maskfeat-visible_vit-tiny_moving-digits.py",
    "targets/maskfeat-hog-blocks_vit-tiny_moving-digits.py",
    "targets/maskfeat-pixel-hog_vit-tiny_moving-digits.py",
    "targets/maskfeat-pixel_mvit-tiny_moving-digits.py",
    "targets/maskfeat-self-teacher_vit-tiny_moving-digits.py",
    "targets/maskfeat-token_vit-tiny_moving-digits.py",
    "targets/maskfeat-token_mvit-tiny_moving-digits.py",
    "mixing/maskfeat_vit-tiny_teacher_moving-digits.py",
)


def hog_of_one_bad_pixel(seed):
    """Compare each cell with the same cell of the image without the bad pixel."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    cell_size, cells = rng.randint(1, 6), rng.randint(1, 3)
    side, grid = cell_size * cells, (rng.randint(1, 3), rng.randint(1, 3))
    size = (max(side * grid[0], 2), max(side * grid[1], 2))
    if any(length % side for length in size):
        return
    channels = rng.choice([1, 2, 3, 5])
    hog = MODELS.build(
        dict(
            type="maskfeat.HOGGenerator",
            nbins=rng.choice([1, 2, 8, 9]),
            cell_size=cell_size,
            gaussian_window=rng.choice([0, 4]),
            signed=rng.random() < 0.5,
            norm=rng.choice(["none", "l1", "l2", "l2-hys"]),
            block_size=rng.choice([1, 1, 2]),
            patch_size=side,
        )
    )
    image = torch.randn(1, channels, *size, generator=generator)
    bad = image.clone()
    value = rng.choice([float("nan"), float("inf"), -float("inf")])
    bad[0, rng.randrange(channels), rng.randrange(size[0]), rng.randrange(size[1])] = value
    clean, found = hog(image), hog(bad)
    spoilt = ~found.isfinite()
    assert found.shape == clean.shape and spoilt.any()
    untouched = (found == clean).all(-1)
    # an infinite neighbour in a block normalises the cell to 0
    assert (untouched | spoilt.any(-1)).all() or hog.block_size > 1


def test_hog_is_not_finite_where_its_pixels_are_not():
    for seed in range(60):
        hog_of_one_bad_pixel(seed)


@pytest.mark.long
def test_hog_is_not_finite_where_its_pixels_are_not_at_length():
    for seed in range(60, 2400):
        hog_of_one_bad_pixel(seed)


@pytest.mark.parametrize("cells", [1, 2, 3, 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cells_of_a_token(cells, value):
    """With one cell per token the index was out of range; with an even number of cells it was another bin."""
    hog = MODELS.build(dict(type="maskfeat.HOGGenerator", cell_size=8, patch_size=8 * cells))
    images = torch.zeros(1, 3, 16 * cells, 16 * cells)
    images[0, 1, 3, 3] = value
    found = hog(images)[0].view(4, 3, -1)
    assert not found[0, 1].isfinite().all() and found[1:].isfinite().all() and found[:, (0, 2)].isfinite().all()


def build(name):
    cfg = Config.fromfile(CONFIGS / name)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.mark.parametrize("name", CONFIG_NAMES)
def test_the_loss_says_so(name):
    """The bad pixel is in a masked token, which the backbone does not use."""
    torch.manual_seed(0)
    model = build(name)
    clip = "mvit" in name
    size = (8, 32, 32) if clip else (40, 40)
    grid = model.backbone.token_grid(size)
    mask = torch.zeros(grid, dtype=torch.bool)
    mask.view(-1)[::2] = True
    inputs = torch.randn(2, 3, *size) * 50 + 100
    bad = inputs.clone()
    bad[1, ..., 3, 3] = float("nan")
    samples = [DataSample(mask=mask if clip else mask[0]) for _ in range(2)]

    def losses(x):
        batch = model.data_preprocessor(dict(inputs=list(x), data_samples=copy.deepcopy(samples)))
        found = model(**batch, mode="loss")
        return torch.stack([value for key, value in found.items() if key.startswith("loss")]), batch

    model.train()
    assert losses(inputs)[0].isfinite().all()
    found, batch = losses(bad)
    assert found.isnan().any()
    sample = model.predict(batch["inputs"], batch["data_samples"], batch["mask"])[1]
    frames = torch.zeros(size[0] if clip else 1, *size[-2:], 3, dtype=torch.uint8).numpy()
    assert draw_prediction(frames, sample, model.target_generator)


def test_label_maps():
    generator = MODELS.build(dict(type="maskfeat.LabelMapGenerator", num_classes=4))
    label_map = torch.zeros(2, 1, 1, 2, 2)
    label_map[0] = torch.tensor([[1.0, 0.0], [float("nan"), 2.0]])
    found = generator(torch.zeros(1, 3, 32, 32), None, [DataSample(label_map=label_map)])[0]
    assert found[0].tolist() == [1, 0, 0, 0] and found[1].tolist() == [0] * 4 and found[2].isnan().all()
