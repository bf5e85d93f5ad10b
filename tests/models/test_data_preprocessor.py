"""MaskFeatDataPreprocessor on the output of the frameworks' packing transforms and collate functions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.datasets.transforms import FormatShape, PackActionInputs
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmpretrain.datasets import BEiTMaskGenerator, PackInputs

from maskfeat_plugin.registry import MODELS, TRANSFORMS

CONFIGS = Path(__file__).parents[2] / "configs" / "_base_" / "models"
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build(**kwargs):
    return MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", **kwargs))


def image_sample(seed, generator):
    img = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    results = dict(img=img, sample_idx=seed, gt_label=seed)
    if generator:
        results = generator(results)
    return img, PackInputs()(results)


def clip_sample(seed, num_clips=1, generator=None):
    imgs = np.random.default_rng(seed).integers(0, 256, (num_clips * 4, 32, 48, 3), dtype=np.uint8)
    results = dict(imgs=list(imgs), clip_len=4, num_clips=num_clips, label=seed, sample_idx=seed)
    results = FormatShape("NCTHW")(results)
    if generator:
        results = generator(results)
    return imgs, PackActionInputs(algorithm_keys=("mask",) if generator else ())(results)


def mask_generator(name, grid):
    return TRANSFORMS.build(dict(type=f"maskfeat.{name}", token_grid=grid, seed=0))


@pytest.mark.parametrize("to_rgb", [False, True])
def test_images_are_normalised_and_masks_stacked(to_rgb):
    generator = mask_generator("BlockMaskGenerator", (4, 6))
    images, samples = zip(*(image_sample(i, generator) for i in range(3)), strict=True)
    batch = build(mean=MEAN, std=STD, to_rgb=to_rgb)(pseudo_collate(samples), training=True)
    raw = np.stack(images)[..., ::-1] if to_rgb else np.stack(images)
    expected = (raw - np.array(MEAN)) / np.array(STD)  # (N, H, W, 3), float64
    assert batch["inputs"].dtype == torch.float32 and batch["inputs"].shape == (3, 3, 32, 48)
    np.testing.assert_allclose(batch["inputs"].permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert batch["mask"].dtype == torch.bool and batch["mask"].shape == (3, 1, 4, 6)
    for mask, sample in zip(batch["mask"], samples, strict=True):
        assert torch.equal(mask[0], sample["data_samples"].mask.bool())
    assert [int(s.gt_label) for s in batch["data_samples"]] == [0, 1, 2]


@pytest.mark.parametrize(
    "config, mean, std",
    [
        ("maskfeat_vit-base-p16.py", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("maskfeat_mvit-small.py", 0.45, 0.225),
    ],
)
def test_full_size_models_normalise_in_the_authors_order(config, mean, std):
    """Bitwise equal to ``x / 255``, then mean and standard deviation on that scale, for each value of a pixel."""
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    ours = MODELS.build(Config.fromfile(CONFIGS / config).model.data_preprocessor)
    expected = (pixels.float() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    assert torch.equal(ours(dict(inputs=pixels))["inputs"], expected)
    plain = build(mean=ours.mean.flatten().tolist(), std=ours.std.flatten().tolist())(dict(inputs=pixels))["inputs"]
    assert not torch.equal(plain, expected)
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-6)


def test_masks_of_mmpretrains_generator_are_taken():
    np.random.seed(0)
    generator = BEiTMaskGenerator(input_size=(8, 8), num_masking_patches=20, min_num_patches=4)
    samples = [image_sample(i, generator)[1] for i in range(2)]
    mask = build()(pseudo_collate(samples))["mask"]
    assert mask.dtype == torch.bool and mask.shape == (2, 1, 8, 8)
    assert mask.flatten(1).sum(1).tolist() == [20, 20]


@pytest.mark.parametrize("num_clips", [1, 3])
def test_clips_become_rows_of_the_batch(num_clips):
    generator = mask_generator("CubeMaskGenerator", (2, 4, 6))
    frames, samples = zip(*(clip_sample(i, num_clips, generator) for i in range(2)), strict=True)
    batch = build(mean=114.75, std=57.375)(pseudo_collate(samples), training=True)
    assert batch["inputs"].shape == (2 * num_clips, 3, 4, 32, 48)
    raw = np.stack(frames).reshape(2 * num_clips, 4, 32, 48, 3)
    np.testing.assert_allclose(batch["inputs"].permute(0, 2, 3, 4, 1).numpy(), (raw - 114.75) / 57.375, atol=1e-5)
    assert batch["mask"].shape == (2 * num_clips, 2, 4, 6)
    expected = np.stack([s["data_samples"].mask for s in samples]).reshape(-1, 2, 4, 6)
    assert (batch["mask"].numpy() == expected).all()


def test_lists_and_stacked_tensors_give_the_same():
    samples = [clip_sample(i)[1] for i in range(2)]
    for sample in samples:
        del sample["data_samples"]
    preprocessor = build()
    stacked = preprocessor(default_collate(samples))
    assert torch.equal(stacked["inputs"], preprocessor(pseudo_collate(samples))["inputs"])
    assert "mask" not in stacked and stacked["data_samples"] is None


def test_the_callers_float_tensor_is_left_alone():
    inputs = torch.rand(2, 3, 16, 16) * 255
    before = inputs.clone()
    normalised = build()(dict(inputs=inputs))["inputs"]
    assert torch.equal(inputs, before) and not torch.equal(normalised, before)


def test_samples_without_masks_give_none():
    samples = [image_sample(i, None)[1] for i in range(2)]
    assert "mask" not in build()(pseudo_collate(samples))


@pytest.mark.parametrize(
    "data, message",
    [
        (dict(inputs=[torch.zeros(3, 8, 8), torch.zeros(3, 8, 16)]), "several sizes.*RandomResizedCrop"),
        (dict(inputs=torch.zeros(2, 1, 8, 8)), r"\(N, 3, H, W\)"),
        (dict(inputs=torch.zeros(2, 8, 8)), r"\(N, 3, H, W\)"),
    ],
)
def test_bad_batches_say_what_is_needed(data, message):
    with pytest.raises(ValueError, match=message):
        build()(data)


def test_one_mask_for_several_clips_is_refused():
    packed = clip_sample(0, num_clips=3)[1]
    packed["data_samples"].mask = np.ones((2, 4, 6), bool)
    with pytest.raises(ValueError, match="after FormatShape"):
        build()(pseudo_collate([packed]))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(mean=(1, 2)), "^mean has 2 numbers"),
        (dict(std=(1, 0, 1)), "^std must be positive"),
        (dict(input_scale=0), "^input_scale must be positive"),
        (dict(input_scale=float("nan")), "^input_scale must be positive"),
    ],
)
def test_bad_settings_name_the_key(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
