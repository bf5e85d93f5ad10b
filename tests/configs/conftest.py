"""Real image and video files for the data sets of any config."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
IMAGE_SETS = ("ImageNet", "CustomDataset")
VIDEO_SETS = ("VideoDataset", "RepeatAugDataset")


def write_video(path, frames):
    """An H.264 file of frames (T, H, W, 3), uint8 RGB."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Two JPEG images and two mp4 clips with the labels 0 and 1, in the layouts of ImageNet and Kinetics."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("train", "meta", "videos"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 20, 96, 128, 3), dtype=np.uint8)
    for i in range(2):
        cv2.imwrite(str(root / "train" / f"{i}.jpg"), frames[i, 0])
        write_video(root / "videos" / f"{i}.mp4", frames[i])
    (root / "meta" / "train.txt").write_text("0.jpg 0\n1.jpg 1\n")
    (root / "videos.txt").write_text("0.mp4 0\n1.mp4 1\n")
    return root


@pytest.fixture
def use_data(data_root):
    """Points a data set's config at these files."""

    def use(dataset):
        kind = dataset.type.rpartition(".")[2]
        if kind in IMAGE_SETS:
            dataset.pop("split", None)
            dataset.update(data_root=str(data_root), ann_file="meta/train.txt", data_prefix="train")
        elif kind in VIDEO_SETS:
            dataset.update(data_root=str(data_root), ann_file="videos.txt", data_prefix=dict(video="videos"))
        else:
            pytest.fail(f"no data for {dataset.type}: teach tests/configs/conftest.py to write some")

    return use
