"""Crops of wide and tall pictures: every row and every column is in some crop."""

import random

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from maskfeat_plugin.config.input_pipeline import without_randomness
from maskfeat_plugin.registry import TRANSFORMS

SHAPES = [
    (960, 2560),
    (1080, 3840),
    (240, 704),
    (3840, 1080),
    (2560, 960),
    (240, 320),
    (400, 400),
    (300, 790),
    (17, 900),
]
FOLDERS = "configs/_base_/datasets"


def crop_of(config):
    """Return the crop of a folder recipe, and the scope of its config."""
    cfg = Config.fromfile(f"{FOLDERS}/{config}.py")
    pipeline = cfg.train_dataloader.dataset.pipeline
    (crop,) = [transform for transform in pipeline if "Crop" in transform["type"]]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return TRANSFORMS.build(crop), crop, cfg.default_scope


def boxes(config, shape, draws):
    """Return crops (left, top, right, bottom) that a recipe draws."""
    crop, _, scope = crop_of(config)
    random.seed(0)
    np.random.seed(0)
    for _ in range(draws):
        if scope == "mmaction":
            first = crop.geometry[0]
            yield first.get_crop_bbox(shape, first.area_range, first.aspect_ratio_range)
        else:
            top, left, height, width = crop.rand_crop_params(np.empty((*shape, 3), np.uint8))
            yield left, top, left + width, top + height


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("config", ["folder_images", "folder_videos"])
def test_every_row_and_column_is_seen(config, shape):
    rows, columns = np.zeros(shape[0], int), np.zeros(shape[1], int)
    # the widest picture needs the most draws: a square of 17 x 17 pixels in 900
    for left, top, right, bottom in boxes(config, shape, 3000):
        assert 0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]
        rows[top:bottom] += 1
        columns[left:right] += 1
    assert rows.all() and columns.all()


@pytest.mark.parametrize("config", ["folder_images", "folder_videos"])
def test_crops_that_fit_are_those_of_upstream(config):
    """In pictures of usual shapes, the same random numbers give the same crops. Only the fallback crops move."""
    crop, settings, scope = crop_of(config)
    image, equal = np.empty((240, 320, 3), np.uint8), 0
    if scope == "mmaction":
        draw, parent = crop.geometry[0].get_crop_bbox, TRANSFORMS.get("mmaction.RandomResizedCrop").get_crop_bbox
        arguments = ((240, 320), crop.geometry[0].area_range, crop.geometry[0].aspect_ratio_range)
    else:
        plain = TRANSFORMS.build(dict(settings, type="mmpretrain.RandomResizedCrop"))
        draw, parent, arguments = crop.rand_crop_params, plain.rand_crop_params, (image,)
    for seed in range(200):
        boxes = []
        for function in (draw, parent):
            random.seed(seed)
            np.random.seed(seed)
            boxes.append([int(side) for side in function(*arguments)])
        ours, theirs = boxes
        equal += ours == theirs
        if scope == "mmaction":
            assert ours == theirs or theirs == [40, 0, 280, 240] and ours[1::2] == [0, 240]
        else:
            assert ours == theirs
    assert equal > 150


@pytest.mark.parametrize(("config", "key"), [("folder_images", "img"), ("folder_videos", "imgs")])
def test_pixels_of_wide_pictures(config, key):
    """The result has its size, and shows more of the width than its middle."""
    crop, _, scope = crop_of(config)
    picture = np.broadcast_to(np.arange(900, dtype=np.float32)[None, :, None] / 4, (240, 900, 3)).astype(np.uint8)
    sample = dict(img_shape=(240, 900), modality="RGB", original_shape=(240, 900))
    seen = []
    for _ in range(30):
        done = crop(dict(sample, **{key: picture.copy() if key == "img" else [picture.copy()] * 2}))
        image = done[key] if key == "img" else done[key][0]
        assert image.shape == (224, 224, 3)
        seen.append(image.mean())
    assert min(seen) < 80 and max(seen) > 145


@pytest.mark.parametrize("config", ["folder_images", "folder_videos"])
def test_where_nothing_is_random_the_crop_is_central(config):
    cfg = Config.fromfile(f"{FOLDERS}/{config}.py")
    steps = without_randomness(cfg.train_dataloader.dataset.pipeline, cfg.default_scope)
    (config,) = [step for step in steps if "Crop" in step["type"]]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        crop = TRANSFORMS.build(config)
    picture = np.broadcast_to(np.arange(900, dtype=np.float32)[None, :, None] / 4, (240, 900, 3)).astype(np.uint8)
    sample = dict(img_shape=(240, 900), modality="RGB", img=picture, imgs=[picture])
    means = {
        float(np.mean(crop(dict(sample))["img" if cfg.default_scope == "mmpretrain" else "imgs"])) for _ in range(8)
    }
    assert len(means) == 1 and abs(means.pop() - 112) < 1
