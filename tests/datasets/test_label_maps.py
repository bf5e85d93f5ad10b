"""Label maps follow the crops and flips of their image or clip, with transforms of any kind."""

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed

from maskfeat_plugin.registry import MODELS, TRANSFORMS


def gradient(height=48, width=64):
    """Return an image whose red is the column and green the row, so that pixels show their original place."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack((np.zeros_like(rows), rows * 4, cols * 4), -1).astype(np.uint8)  # BGR


def where(img, height=48, width=64):
    """Compute relative x and y of each pixel of a transformed gradient()."""
    return (img[..., 2] / 4 + 0.5) / width, (img[..., 1] / 4 + 0.5) / height


@settings(max_examples=20, deadline=None)
@given(
    crop=st.sampled_from(
        [
            dict(type="RandomResizedCrop", scale=40, crop_ratio_range=(0.3, 1.0), interpolation="bicubic"),
            dict(type="RandomCrop", crop_size=32),
            dict(type="CenterCrop", crop_size=(32, 40)),
        ]
    ),
    direction=st.sampled_from(["horizontal", "vertical"]),
    prob=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_tracked_crops_tell_where_pixels_are_from(crop, direction, prob, seed):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        flip = dict(type="RandomFlip", prob=prob, direction=direction)
        track = TRANSFORMS.build(dict(type="maskfeat.TrackCrop", transforms=[crop, flip]))
    set_random_seed(seed)
    results = track(dict(img=gradient()))
    x, y, width, height = results["crop_region"]
    rows, cols = results["img"].shape[:2]
    at_x, at_y = where(results["img"])
    inner = slice(rows // 4, -rows // 4), slice(cols // 4, -cols // 4)
    expected_x = x + width * (np.arange(cols) + 0.5) / cols
    expected_y = y + height * (np.arange(rows) + 0.5) / rows
    assert np.abs(at_x - expected_x)[inner].max() < 1 / 64
    assert np.abs(at_y - expected_y[:, None])[inner].max() < 1 / 48
    assert (width < 0) == (prob == 1 and direction == "horizontal") or prob == 0.5
    # the random numbers continue as without TrackCrop
    after = np.random.rand()
    set_random_seed(seed)
    for transform in track.transforms.transforms:
        transform(dict(img=gradient()))
    assert np.random.rand() == after


def load(root, **kwargs):
    return TRANSFORMS.build(
        dict(type="maskfeat.LoadLabelMap", data_root=str(root / "data"), label_root=str(root / "labels"), **kwargs)
    )


@pytest.fixture
def root(tmp_path):
    (tmp_path / "labels" / "a").mkdir(parents=True)
    return tmp_path


def distributions(label_map, num_classes):
    """Convert (..., E) scores and classes at each token to shares of the classes (T', H', W', K)."""
    scores, classes = label_map
    shares = np.zeros((*scores.shape[1:], num_classes))
    for entry in range(len(scores)):
        for place in np.ndindex(scores.shape[1:]):
            shares[(*place, int(classes[(entry, *place)]))] += scores[(entry, *place)]
    return shares


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_classes_of_an_image_by_hand(root, suffix):
    classes = np.array([[0, 1], [2, 255]], dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    file = str(root / "labels" / "a" / f"0{suffix}")
    cv2.imwrite(file, classes) if suffix == ".png" else np.save(file, classes)
    transform = load(root, token_grid=(2, 2), suffix=suffix, points=2)
    sample = dict(img_path=str(root / "data" / "a" / "0.JPEG"), img=np.zeros((10, 10, 3)))
    whole = transform(dict(sample, crop_region=(0, 0, 1, 1)))["label_map"]
    assert whole.shape == (2, 4, 1, 2, 2) and whole.dtype == np.float32
    shares = distributions(whole, 3)[0]
    np.testing.assert_array_equal(shares, [[[4, 0, 0], [0, 4, 0]], [[0, 0, 4], [0, 0, 0]]])
    flipped = transform(dict(sample, crop_region=(1, 0, -1, 1)))["label_map"]
    np.testing.assert_array_equal(distributions(flipped, 3)[0], shares[:, ::-1])
    middle = transform(dict(sample, crop_region=(0.25, 0.0, 0.5, 0.5)))["label_map"]
    np.testing.assert_array_equal(distributions(middle, 3)[0], [[[4, 0, 0], [0, 4, 0]]] * 2)


@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_scores_and_classes_of_the_best(root, suffix):
    rng = np.random.default_rng(0)
    maps = np.stack((rng.random((3, 4, 4)), rng.integers(0, 9, (3, 4, 4)))).astype(np.float32)
    file = root / "labels" / "a" / f"0{suffix}"
    torch.save(torch.from_numpy(maps).half(), file) if suffix == ".pt" else np.save(file, maps)
    transform = load(root, token_grid=(4, 4), suffix=suffix, points=1)
    sample = dict(img_path=str(root / "data" / "a" / "0.jpg"), img=np.zeros((10, 10, 3)), crop_region=(0, 0, 1, 1))
    found = transform(sample)["label_map"]
    np.testing.assert_allclose(found[:, :, 0], maps, atol=1e-3)


def test_clips_follow_mmaction_in_space_and_time(root):
    """The labels are the column and the time, and the colours of the frames are their columns."""
    columns = np.broadcast_to(np.arange(8), (4, 8, 8)) + 8 * np.arange(4)[:, None, None]
    np.save(root / "labels" / "a" / "0.npy", columns.astype(np.uint8))
    transform = load(root, token_grid=(2, 4, 4), points=1)
    with DefaultScope.overwrite_default_scope("mmaction"):
        crop = TRANSFORMS.build(dict(type="RandomResizedCrop", area_range=(0.3, 0.9)))
        flip = TRANSFORMS.build(dict(type="Flip", flip_ratio=0.5))
    seen = set()
    for seed in range(12):
        set_random_seed(seed)
        frame_inds = np.array([0, 8, 16, 24, 4, 12, 20, 28])  # two clips of four frames
        results = dict(
            filename=str(root / "data" / "a" / "0.mp4"),
            imgs=[gradient(64, 64).copy() for _ in frame_inds],
            img_shape=(64, 64),
            frame_inds=frame_inds,
            num_clips=2,
            clip_len=4,
            total_frames=32,
            modality="RGB",
        )
        results = flip(crop(results))
        seen.add(bool(results["flip"]))
        label_map = transform(results)["label_map"]
        assert label_map.shape == (2, 2, 1, 2, 4, 4)
        label = label_map[:, 1, 0]  # (M, T', H', W')
        img = results["imgs"][0]
        centres = ((np.arange(4) + 0.5) / 4 * img.shape[1]).astype(int)
        expected = where(img, 64, 64)[0][img.shape[0] // 2, centres] * 8
        assert np.abs(label[0, 0, 0] - np.floor(expected)).max() <= 1  # frames have whole pixels
        times = (label[:, :, 0, 0] - label[0, 0, 0, 0]) // 8
        np.testing.assert_array_equal(times, [[0, 2], [0, 2]])
    assert seen == {True, False}


def test_bad_input_is_named(root):
    image = dict(img_path=str(root / "data" / "a" / "0.jpg"), img=np.zeros((10, 10, 3)))
    with pytest.raises(
        FileNotFoundError, match=r"labels/a/0.npy, the label map of .*0.jpg, is not there. Set data_root"
    ):
        load(root, token_grid=(2, 2))(dict(image, crop_region=(0, 0, 1, 1)))
    np.save(root / "labels" / "a" / "0.npy", np.zeros((3, 4, 4)))
    with pytest.raises(
        ValueError, match=r"0.npy has the shape \(3, 4, 4\)\. A label map .* has \(h, w\) or \(2, k, h, w\)"
    ):
        load(root, token_grid=(2, 2))(dict(image, crop_region=(0, 0, 1, 1)))
    np.save(root / "labels" / "a" / "0.npy", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="maskfeat.TrackCrop"):
        load(root, token_grid=(2, 2))(dict(image))
    with pytest.raises(ValueError, match="the sample has no path, .* The sample has crop_region, img"):
        load(root, token_grid=(2, 2))(dict(img=image["img"], crop_region=(0, 0, 1, 1)))
    with pytest.raises(ValueError, match="transforms is empty"):
        TRANSFORMS.build(dict(type="maskfeat.TrackCrop", transforms=[]))
    for kwargs, message in (
        (dict(token_grid=(2,)), "token_grid"),
        (dict(token_grid=(2, 2), suffix=".txt"), "suffix='.txt' is unknown"),
        (dict(token_grid=(2, 2), points=0), "points must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            load(root, **kwargs)


def write_clip(path, frames):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


# Cropping keeps half of the width. The label map has one class per column of four tokens.
LABELS = dict(token_grid=(4, 4), points=2)
IMAGE_PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(
        type="maskfeat.TrackCrop",
        transforms=[
            dict(type="Resize", scale=(64, 32)),
            dict(type="CenterCrop", crop_size=32),
            dict(type="RandomFlip", prob=1.0),
        ],
    ),
    dict(type="maskfeat.LoadLabelMap", **LABELS),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=(4, 4)),
    dict(type="PackInputs", algorithm_keys=("label_map",)),
]
CLIP_PIPELINE = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=4, frame_interval=1, num_clips=2),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(64, 32), keep_ratio=False),
    dict(type="CenterCrop", crop_size=32),
    dict(type="Flip", flip_ratio=1.0),
    dict(type="maskfeat.LoadLabelMap", **dict(LABELS, token_grid=(2, 4, 4))),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=(2, 4, 4)),
    dict(type="PackActionInputs", algorithm_keys=("mask", "label_map")),
]


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_from_files_to_the_target(root, kind):
    """With both frameworks' own transforms, packing and data preprocessor, every token has the class of its place."""
    (root / "data" / "a").mkdir(parents=True)
    np.save(root / "labels" / "a" / "0.npy", np.arange(8, dtype=np.uint8)[None].repeat(4, 0))
    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 96, 3), dtype=np.uint8)
    if kind == "image":
        cv2.imwrite(str(root / "data" / "a" / "0.jpg"), frames[0])
        sample, pipeline, scope = dict(img_path=str(root / "data" / "a" / "0.jpg")), IMAGE_PIPELINE, "mmpretrain"
    else:
        write_clip(root / "data" / "a" / "0.mp4", frames)
        sample = dict(filename=str(root / "data" / "a" / "0.mp4"), start_index=0, modality="RGB")
        pipeline, scope = CLIP_PIPELINE, "mmaction"
    with DefaultScope.overwrite_default_scope(scope):
        roots = dict(data_root=str(root / "data"), label_root=str(root / "labels"))
        pipeline = [dict(t, **roots) if "LoadLabelMap" in t["type"] else dict(t) for t in pipeline]
        data = pseudo_collate([Compose(pipeline)(dict(sample)) for _ in range(3)])
    batch = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor"))(data)
    assert len(batch["inputs"]) == len(batch["mask"]) == (3 if kind == "image" else 6)
    generator = MODELS.build(dict(type="maskfeat.LabelMapGenerator", num_classes=8))
    target = generator(batch["inputs"], batch["mask"], batch["data_samples"])
    columns = batch["mask"].nonzero()[:, 3]
    assert len(columns) > 0
    assert torch.equal(target, torch.nn.functional.one_hot(5 - columns, 8).float())  # the middle four, flipped
