"""Sizes, crops and frames of the full-size configs, compared with Pillow and with numbers of the authors' code."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from sklearn.datasets import load_sample_images

from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.registry import MODELS, TRANSFORMS

PRETRAINING_ON_IMAGES = "pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"
CONFIGS = Path(__file__).parents[2] / "configs"
PHOTOGRAPHS = load_sample_images().images


def build(config, loader, kind):
    """Build a transform of a config's pipeline."""
    cfg = Config.fromfile(CONFIGS / config)
    (found,) = [t for t in cfg[loader].dataset.pipeline if t.type.rpartition(".")[2] == kind]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return TRANSFORMS.build(found)


def hog(image):
    height, width = (side // 8 * 8 for side in image.shape[:2])
    pixels = torch.from_numpy(np.ascontiguousarray(image[:height, :width])).permute(2, 0, 1)[None].float()
    return MODELS.build(dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8)).hog((pixels - 114.75) / 57.375)


def distance(image, expected):
    """Return the relative L2 distance of the HOG of two images."""
    return float((hog(image) - hog(expected)).norm() / hog(expected).norm())


def write_video(path, photograph, scale):
    height, width = (int(side * scale) // 2 * 2 for side in photograph.shape[:2])
    photograph = np.asarray(Image.fromarray(photograph).resize((width, height), Image.LANCZOS))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(photograph, i, 1), format="rgb24")))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=["china", "flower"])
def test_crops_for_pretraining_on_images_are_pillows(photograph):
    crop = build(PRETRAINING_ON_IMAGES, "train_dataloader", "RandomResizedCrop")
    crop.rand_crop_params = lambda image: (20, 30, 300, 280)  # top, left, height, width
    left, top, right, bottom = 30, 20, 310, 320
    seen = {}
    for name in ("pillow", "cv2"):
        crop.backend = crop.backend if name == "pillow" else "cv2"
        seen[name] = crop(dict(img=photograph[..., ::-1], img_shape=photograph.shape[:2]))["img"]
    expected = Image.fromarray(photograph).crop((left, top, right, bottom)).resize((224, 224), Image.BICUBIC)
    expected = np.asarray(expected)[..., ::-1]
    assert distance(seen["pillow"], expected) == 0
    assert distance(seen["cv2"], expected) > 0.2


@pytest.mark.parametrize("scale", [0.8, 1.6])
@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=["china", "flower"])
def test_frames_are_resized_as_by_pillow(photograph, scale, tmp_path):
    """The frames are grey, because videos store colours at half the size. They equal Pillow's floats up to rounding."""
    grey = np.asarray(Image.fromarray(photograph).convert("L").convert("RGB"))
    path = write_video(tmp_path / "video.mp4", grey, scale)
    (small,) = VideoReader(path, path).read([2], short_side=256)
    with av.open(path) as container:
        frame = list(container.decode(video=0))[2]
        luma = frame.to_ndarray()[: frame.height, : frame.width].astype(np.float32)
    size = (round(frame.width * 256 / frame.height), 256)
    assert small.shape == (*size[::-1], 3)
    expected = np.asarray(Image.fromarray((luma - 16) * 255 / 219).resize(size, Image.BILINEAR))
    error = small[..., 1] - expected
    assert abs(error.mean()) < 0.05
    assert error.std() < 0.35  # rounding alone gives 0.29
    # Most cells of a photograph are nearly flat, so HOG is sensitive to rounding
    expected = np.repeat(expected[..., None], 3, 2)
    assert distance(small, expected) < 1.1 * distance(np.rint(expected), expected)


def test_the_short_side_is_the_shorter_one(tmp_path):
    path = write_video(tmp_path / "video.mp4", np.ascontiguousarray(PHOTOGRAPHS[0].transpose(1, 0, 2)), 0.5)
    (frame,) = VideoReader(path, path).read([0], short_side=64)
    assert frame.shape == (round(320 * 64 / 212), 64, 3)
    with pytest.raises(ValueError, match="short_side=0 must be a positive integer"):
        TRANSFORMS.build(dict(type="maskfeat.DecodeClip", short_side=0))


def sample(transform, frames, fps):
    found = transform(dict(total_frames=frames, avg_fps=fps, start_index=0))
    return found["frame_inds"].reshape(found["num_clips"], -1)


FINETUNING = "recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py"
PRETRAINING = "pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"


def test_starts_of_ten_clips():
    clips = sample(build(FINETUNING, "test_dataloader", "SampleFrames"), 300, 30.0)
    assert clips[:, 0].tolist() == [0, 26, 52, 78, 104, 130, 156, 182, 208, 234]
    assert (clips[:, -1] - clips[:, 0] == 63).all()


@pytest.mark.parametrize("config", [PRETRAINING, FINETUNING])
@pytest.mark.parametrize("fps, span", [(15.0, 32), (24.0, 51), (30.0, 64), (60.0, 128)])
def test_clips_last_as_long_at_any_frame_rate(config, fps, span):
    sampling = build(config, "train_dataloader", "SampleFrames")
    for _ in range(20):
        (frames,) = sample(sampling, 400, fps)
        assert frames[-1] - frames[0] == span - 1 and 0 <= frames[0] and frames[-1] < 400
    # for a video shorter than a clip, the last frame is repeated
    (frames,) = sample(sampling, span // 2, fps)
    assert (np.diff(frames) >= 0).all() and frames[-1] < span // 2
