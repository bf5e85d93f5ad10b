"""Sizes computed from settings are equal to sizes of real samples; rectangular inputs work from check to export."""

import random

import cv2
import numpy as np
import pytest
import torch
from long_variants import long_except
from mmcv.transforms import Resize
from mmengine.registry import TRANSFORMS, DefaultScope
from rectangles import FRAMES, HEIGHT, WIDTH, draw_scene, rectangular, write_scenes

from maskfeat_plugin.apis import ConfigError, MaskFeatInferencer, build_trainer, train
from maskfeat_plugin.apis.estimate import measure_peaks, model_costs
from maskfeat_plugin.apis.export import export_model
from maskfeat_plugin.apis.features.extraction import extract_features
from maskfeat_plugin.apis.knn_evaluation import evaluate_knn
from maskfeat_plugin.config.checks import check_config
from maskfeat_plugin.config.input_pipeline import Input, InputPipeline, training_pipeline, without_randomness
from maskfeat_plugin.config.sample_sizes import input_size, size_after

PAIRS = dict(
    image=("maskfeat_vit-tiny_moving-digits", "vit-tiny_moving-digits-class"),
    clip=("maskfeat_mvit-tiny_moving-digits", "mvit-tiny_moving-digits-motion"),
)


def pair(rng):
    return rng.randint(8, 60), rng.randint(8, 60)


# One random setting of each transform with a known order of width and height, by the scope of the config
SETTINGS = {
    "mmpretrain": [
        lambda r: dict(type="Resize", scale=pair(r)),
        lambda r: dict(type="Resize", scale=r.randint(8, 60)),
        lambda r: dict(type="Resize", scale=pair(r), keep_ratio=True),
        lambda r: dict(type="Resize", scale_factor=(r.uniform(0.5, 2), r.uniform(0.5, 2))),
        lambda r: dict(type=Resize, scale=pair(r)),
        lambda r: dict(type="CenterCrop", crop_size=pair(r)),
        lambda r: dict(type="CenterCrop", crop_size=pair(r), auto_pad=True),
        lambda r: dict(type="Pad", size=(r.randint(60, 90), r.randint(60, 90))),
        lambda r: dict(type="Pad", size_divisor=r.randint(2, 9)),
        lambda r: dict(type="Pad", pad_to_square=True),
        lambda r: dict(type="RandomCrop", crop_size=pair(r)),
        lambda r: dict(type="RandomResizedCrop", scale=pair(r)),
        lambda r: dict(type="EfficientNetCenterCrop", crop_size=r.randint(8, 60)),
        lambda r: dict(type="EfficientNetRandomCrop", scale=r.randint(8, 60)),
        lambda r: dict(type="ResizeEdge", scale=r.randint(8, 60), edge=r.choice(["short", "long", "width", "height"])),
        lambda r: dict(type="RandomResizedCropAndInterpolationWithTwoPic", size=pair(r)),
        lambda r: dict(type="RandomFlip", prob=0.5),
        lambda r: dict(type="Rotate", angle=30.0),
        lambda r: dict(
            type="RandomChoice", transforms=[[dict(type="Resize", scale=pair(r))], [dict(type="Resize", scale=pair(r))]]
        ),
        lambda r: dict(type="RandomApply", transforms=[dict(type="Resize", scale=pair(r))], prob=0.5),
    ],
    "mmdet": [
        lambda r: dict(type="Resize", scale=pair(r)),
        lambda r: dict(type="RandomCrop", crop_size=pair(r), allow_negative_crop=True),
        lambda r: dict(type="RandomCrop", crop_size=(0.5, 0.7), crop_type="relative", allow_negative_crop=True),
        lambda r: dict(type="FixShapeResize", height=r.randint(8, 60), width=r.randint(8, 60)),
        lambda r: dict(type="FixShapeResize", height=60, width=r.randint(8, 60), keep_ratio=True),
        lambda r: dict(type="Pad", size=(r.randint(60, 90), r.randint(60, 90))),
        lambda r: dict(type="mmpretrain.RandomCrop", crop_size=pair(r)),
        lambda r: dict(type="RandomResize", scale=pair(r), ratio_range=(0.5, 2.0), resize_type="Resize"),
    ],
    "mmaction": [
        lambda r: dict(type="Resize", scale=pair(r), keep_ratio=False),
        lambda r: dict(type="Resize", scale=pair(r)),
        lambda r: dict(type="Resize", scale=(-1, r.randint(8, 60))),
        lambda r: dict(type="RandomResizedCrop", area_range=(0.3, 1.0)),
        lambda r: dict(type="RandomRescale", scale_range=(30, 50)),
        lambda r: dict(type="MultiScaleCrop", input_size=30, scales=(1, 0.8)),
        lambda r: dict(type="Flip", flip_ratio=0.5),
        lambda r: dict(type="maskfeat.RandomResizedCropFlip", scale=pair(r)),
        lambda r: dict(type="maskfeat.CentralCrop", aspect_ratio=2.0),
        lambda r: dict(type="maskfeat.Cached", transforms=[dict(type="Resize", scale=pair(r), keep_ratio=False)]),
    ],
}
# These need a frame that is large enough, or of one of the crop's sizes
LAST = [
    lambda r, h, w: dict(type="CenterCrop", crop_size=(r.randint(8, w), r.randint(8, h))),
    lambda r, h, w: dict(type="RandomCrop", size=r.randint(8, min(h, w))),
    lambda r, h, w: dict(type="ThreeCrop", crop_size=(w, r.randint(4, h))),
    lambda r, h, w: dict(type="TenCrop", crop_size=(r.randint(8, w), r.randint(8, h))),
]


def run(steps, scope, height, width):
    """Return the size that real frames have after the steps."""
    frame = np.random.randint(0, 255, (height, width, 3), np.uint8)
    sample = dict(img=frame, img_shape=(height, width), ori_shape=(height, width), sample_idx=0)
    sample.update(imgs=[frame] * 2, modality="RGB", original_shape=(height, width))
    sample.pop("img" if scope == "mmaction" else "imgs")
    with DefaultScope.overwrite_default_scope(scope):
        for step in steps:
            sample = TRANSFORMS.build(step)(sample)
    found = sample["imgs"][0] if scope == "mmaction" else sample["img"]
    return tuple(np.shape(found)[:2])


def compare(seed):
    """Draw a pipeline and an image; return True if its size was known before and is equal to the real size."""
    rng = random.Random(seed)
    np.random.seed(seed)
    random.seed(seed)
    scope = rng.choice(sorted(SETTINGS))
    height, width = rng.randint(40, 90), rng.randint(40, 90)
    steps = [rng.choice(SETTINGS[scope])(rng) for _ in range(rng.randint(1, 3))]
    if scope == "mmaction" and rng.random() < 0.5:
        size = input_size(steps, scope)
        if size is not None and min(size) >= 8:
            steps.append(rng.choice(LAST)(rng, *size))
    expected = input_size(steps, scope)
    from_image = (height, width)
    for step in steps:
        from_image = None if from_image is None else size_after(step, from_image, scope)
    found = run(steps, scope, height, width)
    assert from_image in (None, found), (scope, steps, (height, width))
    (kind, *others) = [step["type"] for step in steps]
    if expected is not None and not others and kind != "Pad":  # for an image that is large enough
        grown = run(steps, scope, max(height, 400), max(width, 400))
        assert expected == grown, (scope, steps)
    return expected is not None or from_image is not None


@pytest.fixture(autouse=True)
def chance_as_it_was():
    states = random.getstate(), np.random.get_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def test_told_sizes_are_those_of_samples():
    known = [compare(seed) for seed in range(60)]
    assert sum(known) > 30


@pytest.mark.long
def test_told_sizes_are_those_of_samples_at_length():
    known = [compare(seed) for seed in range(60, 2560)]
    assert sum(known) > 1250


@pytest.mark.parametrize(
    ("name", "frame"), [("CenterCrop", (50, 40)), ("Resize", (50, 40)), ("RandomResizedCrop", (40, 50))]
)
def test_torchvision_takes_the_height_first(name, frame):
    step = dict(type=f"torchvision/{name}", size=(40, 50))
    assert size_after(step, (90, 90), "mmpretrain") == (40, 50)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        found = TRANSFORMS.build(step)(dict(img=torch.zeros(3, 90, 90)))["img"]
    assert found.shape[1:] == (40, 50)


def test_other_transforms_of_torchvision_keep_the_size():
    assert size_after(dict(type="torchvision/ColorJitter", hue=0.1), (40, 50)) == (40, 50)


def test_transforms_that_nobody_knows():
    """Unknown transforms with a size make the size unknown; other unknown transforms do not change it."""
    known = dict(type="mmcv.Resize", scale=(20, 10))
    assert input_size([known, dict(type="Blur", radius=3)], "mmpretrain") == (10, 20)
    assert input_size([known, dict(type="Somebodys", size=(30, 40))], "mmpretrain") is None


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("rectangles") / "data")


@pytest.mark.parametrize("kind", long_except(PAIRS, 0))
def test_from_the_check_to_the_export(kind, scenes, tmp_path):
    """Each is correct for a rectangle; with height and width swapped, none of them would fit another."""
    pretraining, finetuning = PAIRS[kind]
    hook = dict(type="maskfeat.MaskFeatVisualizationHook", interval=2, indices=(0,), attention=True)
    options = {"custom_hooks": [hook], "visualizer.type": "maskfeat.MaskFeatVisualizer"}
    cfg = rectangular(pretraining, scenes, tmp_path / "pre", **options)
    grid = (HEIGHT // 8, WIDTH // 8)
    size = (HEIGHT, WIDTH) if kind == "image" else (FRAMES, HEIGHT, WIDTH)
    assert input_size(training_pipeline(cfg), cfg.default_scope) == size
    check_config(cfg, ("train_dataloader",))
    train(build_trainer(cfg))
    checkpoint = str(tmp_path / "pre" / "iter_2.pth")
    pictures = list((tmp_path / "pre").rglob("vis_image/*.png"))
    assert pictures and model_costs(cfg).forward_flops > 0

    suffix, folder = ("png", "images") if kind == "image" else ("mp4", "videos")
    inferencer = MaskFeatInferencer(cfg, checkpoint, "cpu", show_progress=False)
    array = draw_scene(0) if kind == "image" else np.stack([draw_scene(0)] * 20)
    results = inferencer([scenes / folder / f"0.{suffix}", array], out_dir=tmp_path / "pictures", return_features=True)
    assert all(result["mask"].shape[-2:] == grid for result in results)

    cfg = rectangular(finetuning, scenes, tmp_path / "fine", **{"train_cfg.val_interval": 2})
    cfg.model.backbone.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=checkpoint)
    check_config(cfg, ("train_dataloader", "val_dataloader"))
    train(build_trainer(cfg))
    fine_tuned = str(tmp_path / "fine" / "iter_2.pth")
    assert set(evaluate_knn(cfg, checkpoint, k=(1,))) == {"top1_k1", "top5_k1"}
    assert extract_features(cfg, fine_tuned, tmp_path / "features.npz", str(scenes / folder)).rows == 8
    exported = export_model(cfg, fine_tuned, tmp_path / "model.pt2")
    assert exported.shape == (3, *size)
    program = torch.export.load(str(tmp_path / "model.pt2")).module()
    assert program(torch.zeros(3, 3, *size)).shape == (3, exported.num_classes)


@pytest.mark.parametrize("kind", PAIRS)
def test_swapped_grids_are_refused(kind, scenes, tmp_path):
    cfg = rectangular(PAIRS[kind][0], scenes, tmp_path)
    for transform in cfg.train_dataloader.dataset.pipeline:
        if "token_grid" in transform:
            right = transform["token_grid"]
            transform["token_grid"] = (*right[:-2], *right[:-3:-1])
    with pytest.raises(ConfigError, match=f"; set token_grid={str(right)}.".replace("(", r"\(").replace(")", r"\)")):
        check_config(cfg, ("train_dataloader",))


@pytest.mark.parametrize("kind", PAIRS)
def test_without_randomness_the_middle_is_not_squeezed(kind, scenes, tmp_path):
    """A picture of 60 x 120 is cropped with the ratio 2 : 1, and a disc in its middle stays round."""
    cfg = rectangular(PAIRS[kind][0], scenes, tmp_path)
    picture = np.zeros((60, 120, 3), np.uint8)
    cv2.circle(picture, (60, 30), 20, (255,) * 3, -1)
    array = picture if kind == "image" else np.stack([picture] * 20)
    pipeline = InputPipeline(cfg, without_randomness(training_pipeline(cfg), cfg.default_scope))
    inputs = pipeline(Input("array", array), 0)["inputs"]
    frame = inputs.reshape(3, -1, HEIGHT, WIDTH)[0, 0] > 127
    across, along = frame.any(0).sum().item(), frame.any(1).sum().item()
    assert abs(across - along) <= 1 and across > 15


@pytest.mark.long
def test_memory_of_rectangles_is_measured(scenes, tmp_path):
    for kind, size in (("image", (HEIGHT, WIDTH)), ("clip", (FRAMES, HEIGHT, WIDTH))):
        cfg = rectangular(PAIRS[kind][0], scenes, tmp_path)
        cfg.dump(tmp_path / f"{kind}.py")
        (peak,) = measure_peaks(tmp_path / f"{kind}.py", "data-parallel", 1, 4, size)
        assert peak > 0
