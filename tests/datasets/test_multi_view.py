"""MultiView: views of images and clips, a mask for each view, and their places in the batch."""

import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS, DefaultScope

from maskfeat_plugin.config.input_pipeline import without_randomness
from maskfeat_plugin.config.sample_sizes import input_size
from maskfeat_plugin.engine.hooks.mask_ratio_hook import find_mask_generators
from maskfeat_plugin.registry import MODELS, TRANSFORMS

IMAGE = [
    dict(
        type="maskfeat.MultiView",
        num_views=[1, 1],
        transforms=[
            [dict(type="RandomCrop", crop_size=16)],
            [dict(type="RandomCrop", crop_size=16), dict(type="RandomFlip", prob=1.0)],
        ],
    ),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=(4, 4), mask_ratio=0.4),
    dict(type="PackInputs"),
]
CLIP = [
    dict(
        type="maskfeat.MultiView",
        num_views=2,
        transforms=[[dict(type="RandomCrop", size=16), dict(type="FormatShape", input_format="NCTHW")]],
    ),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=(2, 4, 4), mask_ratio=0.4),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
KINDS = dict(image=("mmpretrain", IMAGE), clip=("mmaction", CLIP))


def image(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return dict(img=pixels, img_shape=(24, 24), ori_shape=(24, 24), sample_idx=seed)


def clip(seed):
    rng = np.random.default_rng(seed)
    frames = list(rng.integers(0, 256, (4, 24, 24, 3), dtype=np.uint8))
    return dict(imgs=frames, img_shape=(24, 24), original_shape=(24, 24), num_clips=1, clip_len=4, modality="RGB")


def run(kind, seed):
    scope, pipeline = KINDS[kind]
    np.random.seed(seed)
    sample = (image if kind == "image" else clip)(seed)
    with DefaultScope.overwrite_default_scope(scope):
        for transform in pipeline:
            sample = TRANSFORMS.build(transform)(sample)
    return sample


@pytest.mark.parametrize("kind", KINDS)
def test_views_and_masks_differ(kind):
    sample = run(kind, 0)
    first, second = sample["inputs"]
    size = (3, 16, 16) if kind == "image" else (3, 4, 16, 16)
    assert first.shape == second.shape == size and not torch.equal(first, second)
    mask = torch.as_tensor(sample["data_samples"].mask)
    assert mask.shape == ((2, 1, 4, 4) if kind == "image" else (2, 2, 4, 4))
    assert not torch.equal(mask[0], mask[1])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("collate", ["pseudo_collate", "default_collate"])
@pytest.mark.parametrize("kind", KINDS)
def test_views_are_neighbours_in_the_batch(kind, collate, count):
    samples = [run(kind, seed) for seed in range(count)]
    preprocess = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=0.0, std=1.0))
    batch = preprocess(FUNCTIONS.get(collate)(samples))
    views = torch.stack([view for sample in samples for view in sample["inputs"]])
    assert torch.equal(batch["inputs"], views.float()) and len(batch["data_samples"]) == count
    masks = torch.cat([torch.as_tensor(sample["data_samples"].mask) for sample in samples])
    assert torch.equal(batch["mask"], masks)
    places = [mask.flatten().nonzero().flatten() for mask in masks]
    assert torch.equal(batch["masked_index"], torch.stack(places))


@pytest.mark.parametrize("collate", ["pseudo_collate", "default_collate"])
def test_two_clips_of_two_channels_stay_clips(collate):
    """A list of clips (2, T, H, W) is as long and as deep as two views of two images, but its masks are not."""
    samples = [dict(run("clip", seed), inputs=torch.full((2, 2, 16, 16), seed, dtype=torch.uint8)) for seed in (0, 1)]
    for sample in samples:
        sample["data_samples"].mask = torch.as_tensor(sample["data_samples"].mask)[0]
    preprocess = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=0.0, std=1.0))
    batch = preprocess(FUNCTIONS.get(collate)(samples))
    assert torch.equal(batch["inputs"], torch.stack([sample["inputs"] for sample in samples]).float())


@pytest.mark.parametrize("kind", KINDS)
def test_tools_find_size_and_masks(kind):
    scope, pipeline = KINDS[kind]
    frames = [] if kind == "image" else [dict(type="SampleFrames", clip_len=4)]
    assert input_size([*frames, *pipeline], scope) == ((16, 16) if kind == "image" else (4, 16, 16))
    with DefaultScope.overwrite_default_scope(scope):
        built = [TRANSFORMS.build(transform) for transform in pipeline]
    assert len(list(find_mask_generators(built))) == 1
    kept = [transform["type"] for transform in without_randomness(pipeline, scope)]
    assert (
        "maskfeat.MultiView" not in kept and "RandomFlip" not in kept and kept[-2:] == [t["type"] for t in pipeline[1:]]
    )
    if kind == "image":
        assert kept[0].endswith("CenterCrop")


def test_a_damaged_sample_is_passed_on():
    transform = TRANSFORMS.build(dict(type="maskfeat.MultiView", num_views=2, transforms=[[lambda sample: None]]))
    assert transform(image(0)) is None


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="transforms has to be a list of 1 lists of transforms.*num_views=2"):
        TRANSFORMS.build(dict(type="maskfeat.MultiView", num_views=2, transforms=[dict(type="RandomFlip")]))
    with pytest.raises(ValueError, match="a list of 2 lists"):
        TRANSFORMS.build(dict(type="maskfeat.MultiView", num_views=[1, 1], transforms=[[]]))
    transform = TRANSFORMS.build(dict(type="maskfeat.MultiView", num_views=2, transforms=[[]]))
    with pytest.raises(ValueError, match=r"must end with FormatShape\(input_format='NCTHW'\)"):
        transform(clip(0))
