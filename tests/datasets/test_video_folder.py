"""Videos of a folder, without a list."""

import av
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from maskfeat_plugin.registry import DATASETS

PIPELINE = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="SampleFrames", clip_len=2),
    dict(type="maskfeat.DecodeClip"),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
NAMES = ["B.MP4", "a video.mkv", "deep/er/c.mov"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of videos with 4 frames, each video in its own grey, beside files that are no videos."""
    root = tmp_path_factory.mktemp("videos")
    for i, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(root / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height = stream.width = 32
            stream.pix_fmt = "yuv420p"
            for _ in range(4):
                grey = np.full((32, 32, 3), 60 * (i + 1), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
            container.mux(stream.encode())
    (root / "notes.txt").write_text("no video")
    (root / "empty.mp4").mkdir()
    return root


def build(video, **settings):
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(
            dict(type="maskfeat.VideoDataset", data_prefix=dict(video=str(video)), pipeline=PIPELINE, **settings)
        )


def test_every_video_below_the_folder(folder):
    dataset = build(folder)
    assert [dataset.get_data_info(i)["filename"] for i in range(len(dataset))] == [str(folder / n) for n in NAMES]
    greys = [int(dataset[i]["inputs"].float().mean()) for i in range(len(dataset))]
    assert greys == pytest.approx([60, 120, 180], abs=4)


def test_below_a_root(folder):
    dataset = build("deep", data_root=str(folder))
    assert [dataset.get_data_info(i)["filename"] for i in range(len(dataset))] == [str(folder / NAMES[2])]


def test_a_list_chooses(folder, tmp_path):
    (tmp_path / "some.txt").write_text("B.MP4\n")
    dataset = build(folder, ann_file=str(tmp_path / "some.txt"))
    assert [dataset.get_data_info(i)["filename"] for i in range(len(dataset))] == [str(folder / NAMES[0])]


def test_no_video_and_no_folder_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match=rf"no video \(\.mp4, .*below '{folder}/empty\.mp4'"):
        build(folder / "empty.mp4")
    with pytest.raises(ValueError, match=r"data_prefix\.video has to be the folder"):
        build("")
