"""Frame rates in the log of a training."""

from uuid import uuid4

import av
import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from maskfeat_plugin.registry import DATASETS


def write(path, rate):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(rate):
            image = np.full((32, 32, 3), i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with videos of 5 and 60 frames per second, and a video that cannot be read."""
    root = tmp_path_factory.mktemp("rates")
    write(root / "slow.mp4", 5)
    write(root / "fast.mp4", 60)
    (root / "bad.mp4").write_bytes(b"no video")
    return root


def logged(capfd, folder, test_mode=False, **changes):
    sampler = dict(type="SampleFrames", clip_len=16, frame_interval=4, num_clips=1, **changes)
    pipeline = [dict(type="maskfeat.OpenVideo"), sampler, dict(type="maskfeat.DecodeClip")]
    place = dict(data_prefix=dict(video=str(folder)), pipeline=pipeline, test_mode=test_mode)
    MMLogger.get_instance(f"rates {uuid4()}", log_level="INFO")  # with the streams of this test
    with DefaultScope.overwrite_default_scope("mmaction"):
        DATASETS.build(dict(type="maskfeat.VideoDataset", **place))
    return [line for line in "".join(capfd.readouterr()).splitlines() if "videos were opened" in line]


def test_clips_of_equal_time(capfd, folder):
    (line,) = logged(capfd, folder, target_fps=30)
    text = "INFO - 2 of 3 videos were opened: 5 to 60 frames a second. A clip spans 2.13 s in each video."
    assert line.endswith(text)


def test_clips_of_other_times_are_a_warning(capfd, folder):
    (line,) = logged(capfd, folder)
    assert "WARNING - 2 of 3" in line and "A clip spans 1.07 to 12.8 s. Set target_fps of SampleFrames" in line


def test_data_to_test_on_are_not_opened(capfd, folder):
    assert not logged(capfd, folder, test_mode=True)
