"""Tests of inputs with any number of channels and 8 or 16 bits, from pre-training to the export."""

import random

import cv2
import numpy as np
import pytest
import torch
from long_variants import long_except
from mmcv.transforms import BaseTransform
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from rectangles import FRAMES, HEIGHT, SCENES, WIDTH, draw_scene, rectangular

from maskfeat_plugin.apis import ConfigError, MaskFeatInferencer, build_trainer, train
from maskfeat_plugin.apis.estimate import model_costs
from maskfeat_plugin.apis.export import export_model
from maskfeat_plugin.checkpoints import from_state_dict, load_into
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from maskfeat_plugin.visualization import draw_prediction, unnormalize

PAIRS = dict(
    image=("maskfeat_vit-tiny_moving-digits", "vit-tiny_moving-digits-class"),
    clip=("maskfeat_mvit-tiny_moving-digits", "mvit-tiny_moving-digits-motion"),
)
READERS = dict(
    LoadImageFromFile="maskfeat.LoadArrayInTest",
    DecordInit="maskfeat.LoadArrayInTest",
    DecordDecode="maskfeat.TakeFramesInTest",
    FormatShape="maskfeat.FormatShape",
)
QUICK = (3, 4)  # positions of the variants of make test
KINDS = [("image", 1, 8), ("image", 1, 16), ("image", 5, 16), ("image", 6, 8), ("clip", 1, 8), ("clip", 5, 16)]


@TRANSFORMS.register_module(force=True)
class LoadArrayInTest(BaseTransform):
    """Transform that reads an image or the frames of a clip from a numpy file, as users of such sensors do."""

    def transform(self, results):
        clip = "filename" in results
        array = np.load(results["filename"] if clip else results["img_path"])
        if not clip:
            return dict(results, img=array, img_shape=array.shape[:2], ori_shape=array.shape[:2])
        return dict(results, array=array, total_frames=len(array))


@TRANSFORMS.register_module(force=True)
class TakeFramesInTest(BaseTransform):
    """Transform that takes the sampled frames."""

    def transform(self, results):
        frames = [results["array"][index] for index in results["frame_inds"]]
        return dict(results, imgs=frames, img_shape=frames[0].shape[:2], original_shape=frames[0].shape[:2])


def scene(number, channels, bits):
    """Draw a picture whose channels are shifted against each other; 16-bit values are 257 times larger."""
    grey = draw_scene(number).mean(-1)
    values = np.stack([np.roll(grey, 3 * c, axis=1) for c in range(channels)], -1)
    return values.astype(np.uint8) if bits == 8 else (values * 257).astype(np.uint16)


def write_arrays(folder, kind, channels, bits):
    lines = dict(images=[], videos=[])
    name = "images" if kind == "image" else "videos"
    (folder / name).mkdir(parents=True)
    for number in range(SCENES):
        array = scene(number, channels, bits)
        array = array if kind == "image" else np.stack([np.roll(array, t, 1) for t in range(20)])
        np.save(folder / name / f"{number}.npy", array)
        lines[name].append(f"{number}.npy {number % 2}\n")
    (folder / f"{name}.txt").write_text("".join(lines[name]))
    return folder


def adapt(cfg, channels, bits):
    """Change a config for these files: their readers, the number of channels, and the scale of the values."""
    scale = 1 if bits == 8 else 257
    cfg.model.data_preprocessor.update(mean=[114.75 * scale] * channels, std=[57.375 * scale] * channels)
    cfg.model.backbone.in_channels = channels
    if "neck" in cfg.model and cfg.model.neck:
        cfg.model.neck.out_channels = channels * 36
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if not cfg.get(key):
            continue
        dataset = cfg[key].dataset
        for step in dataset.pipeline:
            step["type"] = READERS.get(step["type"], step["type"])
        if dataset.type == "CustomDataset":
            dataset.extensions = [".npy"]
    return cfg


@pytest.mark.parametrize(("kind", "channels", "bits"), long_except(KINDS, *QUICK))
def test_from_pretraining_to_the_export(kind, channels, bits, tmp_path):
    data = write_arrays(tmp_path / "data", kind, channels, bits)
    pretraining, finetuning = PAIRS[kind]
    hook = dict(type="maskfeat.MaskFeatVisualizationHook", interval=2, indices=(0,), attention=True)
    options = {"custom_hooks": [hook], "visualizer.type": "maskfeat.MaskFeatVisualizer"}
    cfg = adapt(rectangular(pretraining, data, tmp_path / "pre", **options), channels, bits)
    train(build_trainer(cfg))
    assert list((tmp_path / "pre").rglob("vis_image/*.png")) and model_costs(cfg).forward_flops > 0
    checkpoint = str(tmp_path / "pre" / "iter_2.pth")

    cfg = adapt(rectangular(finetuning, data, tmp_path / "fine", **{"train_cfg.val_interval": 2}), channels, bits)
    cfg.model.backbone.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=checkpoint)
    train(build_trainer(cfg))
    exported = export_model(cfg, str(tmp_path / "fine" / "iter_2.pth"), tmp_path / "model.pt2")
    assert exported.shape == (channels, *((FRAMES,) if kind == "clip" else ()), HEIGHT, WIDTH)


def inferencer_of(kind, channels, bits, tmp_path):
    """Build an inferencer for arrays from a demo config."""
    cfg = rectangular(PAIRS[kind][0], tmp_path, tmp_path)
    scale = 1 if bits == 8 else 257
    cfg.model.data_preprocessor.update(mean=114.75 * scale, std=57.375 * scale)
    cfg.model.backbone.in_channels = channels
    cfg.model.neck.out_channels = channels * 36
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        state = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / "start.pth")
    return MaskFeatInferencer(cfg, tmp_path / "start.pth", "cpu", show_progress=False)


@pytest.mark.parametrize(("kind", "channels", "bits"), KINDS)
def test_arrays_and_their_pictures(kind, channels, bits, tmp_path):
    inferencer = inferencer_of(kind, channels, bits, tmp_path)
    array = scene(1, channels, bits)
    array = array if kind == "image" else np.stack([array] * 20)
    (result,) = inferencer([array], out_dir=tmp_path / "pictures")
    assert np.isfinite(result["pred_features"]).all() and result["target_features"].shape[1] == channels * 36
    assert result["target_features"].any() and len(list((tmp_path / "pictures").iterdir())) == 1
    with pytest.raises(ConfigError, match=rf"an array has to be uint8 .*, {channels}\)"):
        inferencer([np.zeros((*array.shape[:-1], 4), np.uint8)])


def test_grey_files_of_16_bits(tmp_path):
    """mmcv reads grey images without an axis for the channel."""
    inferencer = inferencer_of("image", 1, 16, tmp_path)
    array = scene(1, 1, 16)
    cv2.imwrite(str(tmp_path / "grey.png"), array)
    inferencer.pipeline[0]["color_type"] = "unchanged"
    mask = np.ones((HEIGHT // 8, WIDTH // 8), bool)
    file, same = inferencer([str(tmp_path / "grey.png"), array], mask=mask)
    np.testing.assert_array_equal(file["target_features"], same["target_features"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 13])
@pytest.mark.parametrize("size", [(24, 32), (4, 24, 32)])
def test_normalised_and_back(dtype, channels, size):
    rng = np.random.default_rng(0)
    largest = np.iinfo(dtype).max
    raw = rng.integers(0, largest, (2, channels, *size), dtype=dtype)
    raw[:, 0, ..., 0, 0] = largest
    mean, std = (rng.uniform(0.2, 0.8, channels) * largest for _ in range(2))
    model = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=list(mean), std=list(std), to_rgb=True))
    found = model(dict(inputs=[torch.from_numpy(x) for x in raw]))["inputs"]
    expected = raw[:, ::-1] if channels == 3 else raw
    shape = (-1, *(1,) * len(size))
    np.testing.assert_allclose(found, (expected - mean.reshape(shape)) / std.reshape(shape), atol=1e-4)
    frames = unnormalize(found[0], model.mean, model.std)
    clip = expected[0] if len(size) == 3 else expected[0][:, None]
    assert frames.dtype == dtype and np.abs(frames.astype(int) - clip.transpose(1, 2, 3, 0).astype(int)).max() <= 1


def test_mean_and_std_have_to_fit():
    with pytest.raises(ValueError, match="mean has 5 numbers, std has 3"):
        MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=[1.0] * 5))
    model = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=[1.0] * 5, std=2.0))
    with pytest.raises(ValueError, match=r"\(N, 5, H, W\)"):
        model(dict(inputs=torch.zeros(2, 3, 8, 8)))
    anything = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=1.0, std=2.0))
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):  # channels last
        anything(dict(inputs=torch.zeros(2, 32, 32, 3)))


@pytest.mark.parametrize("kind", ["HOGGenerator", "PixelGenerator"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_targets_are_drawn(kind, channels):
    """The picture of a 16-bit pixel target agrees with the picture of the frames."""
    generator = MODELS.build(dict(type=f"maskfeat.{kind}"))
    model = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor", mean=30000.0, std=15000.0))
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 65535, (channels, 32, 64), dtype=np.uint16))
    inputs = model(dict(inputs=[raw]))["inputs"]
    mask = torch.ones(1, 1, 2, 4, dtype=torch.bool)
    generator.connect(torch.nn.ModuleDict(dict(data_preprocessor=model)))
    target = generator(inputs, mask)
    sample = BaseDataElement(mask=mask[0], pred_features=target, target_features=target)
    pictures = draw_prediction(raw.permute(1, 2, 0).numpy()[None], sample, generator)
    assert {picture.shape for picture in pictures.values()} == {pictures["original"].shape}
    if kind == "PixelGenerator":
        assert np.abs(pictures["target"].astype(int) - pictures["original"].astype(int)).max() <= 1


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5, 6])
def test_weights_of_rgb_are_adapted(clip, channels):
    def build(number):
        if clip:
            settings = dict(
                arch=dict(embed_dims=16, num_layers=1, num_heads=1, downscale_indices=[], dim_mul_indices=[])
            )
            settings.update(type="maskfeat.MaskedMViT", temporal_size=4, spatial_size=32)
        else:
            settings = dict(arch=dict(embed_dims=16, num_layers=1, num_heads=1, feedforward_channels=32))
            settings.update(type="maskfeat.MaskedViT", img_size=32, patch_size=8)
        return MODELS.build(dict(settings, in_channels=number))

    rgb, other = build(3), build(channels)
    state = {f"backbone.{name}": value.clone() for name, value in rgb.state_dict().items()}
    report = load_into(other, from_state_dict(state, "rgb.pth"))
    old, new = (model.patch_embed.projection.weight.detach() for model in (rgb, other))
    assert list(report.adapted) == ["patch_embed.projection.weight"] and "adapted to other channels" in str(report)
    assert f"{channels} channel" in str(report)
    if channels == 1:
        torch.testing.assert_close(new, old.sum(1, keepdim=True))
    else:
        for channel in range(channels):
            torch.testing.assert_close(new[:, channel], old[:, channel % 3] * 3 / channels)
    state = {f"backbone.{name}": value.clone() for name, value in build(4).state_dict().items()}
    report = load_into(rgb, from_state_dict(state, "four.pth"), min_found=0.0)
    assert any("only weights of 3 channels" in reason for reason in report.ignored.values()) and not report.adapted


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_crops_in_one_step(channels, dtype):
    """RandomResizedCropFlip gives the same result as the three transforms of mmaction2, for any number of channels."""
    frames = [np.random.default_rng(i).integers(0, 255, (40, 60, channels)).astype(dtype) for i in range(3)]
    crop = dict(type="maskfeat.RandomResizedCropFlip", scale=(32, 16))
    three = [
        dict(type="RandomResizedCrop"),
        dict(type="Resize", scale=(32, 16), keep_ratio=False),
        dict(type="Flip"),
    ]
    results = []
    with DefaultScope.overwrite_default_scope("mmaction"):
        for steps in ([crop], three):
            random.seed(0)
            np.random.seed(0)
            sample = dict(imgs=list(frames), img_shape=(40, 60), modality="RGB")
            for step in steps:
                sample = TRANSFORMS.build(step)(sample)
            results.append(np.stack(list(sample["imgs"])).reshape(3, 16, 32, channels))
    np.testing.assert_array_equal(*results)
