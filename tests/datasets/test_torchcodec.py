"""Decoding with torchcodec: the same frames as our reader, and one error if it is not installed."""

import importlib.util

import av
import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import TRANSFORMS


def _is_usable():
    if importlib.util.find_spec("torchcodec") is None:
        return False
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        return False
    return True


USABLE = _is_usable()


@pytest.fixture(params=["libx264 .mp4", "libx265 .mp4", "libx264 .mkv", "libvpx-vp9 .webm"])
def video(tmp_path, request):
    codec, ending = request.param.split()
    path = str(tmp_path / f"a{ending}")
    scene = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 24, 3), dtype=np.uint8), (384, 144))
    with av.open(path, "w") as container:
        stream = container.add_stream(
            codec, rate=25, options={"x265-params": "log-level=none"} if codec == "libx265" else {}
        )
        stream.width, stream.height, stream.pix_fmt = 192, 144, "yuv420p"
        for i in range(60):
            picture = np.ascontiguousarray(scene[:, 3 * i : 3 * i + 192])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def decode(path, opener, short_side):
    steps = [opener, dict(type="SampleFrames", clip_len=8, frame_interval=4, num_clips=2, test_mode=True)]
    with DefaultScope.overwrite_default_scope("mmaction"):
        pipeline = Compose([*steps, dict(type="maskfeat.DecodeClip", short_side=short_side)])
        sample = pipeline(dict(filename=path, start_index=0, modality="RGB"))
    return np.stack(sample["imgs"]).astype(int)


@pytest.mark.skipif(not USABLE, reason="torchcodec is optional; it needs FFmpeg's shared libraries, which pip lacks")
def test_frames_are_those_of_our_reader(video):
    ours = decode(video, dict(type="maskfeat.OpenVideo"), None)
    theirs = decode(video, dict(type="maskfeat.OpenVideoByTorchCodec", device="cpu"), None)
    assert ours.shape == (16, 144, 192, 3) and (ours == theirs).all()
    small = decode(video, dict(type="maskfeat.OpenVideoByTorchCodec", device="cpu"), 72)
    pillow = [Image.fromarray(image.astype(np.uint8)).resize((96, 72), Image.BILINEAR) for image in ours]
    assert np.abs(small - np.stack(pillow).astype(int)).mean() < 0.5


@pytest.mark.skipif(not USABLE, reason="torchcodec is optional; it needs FFmpeg's shared libraries, which pip lacks")
def test_a_frame_that_is_not_there_is_one_error(video):
    reader = TRANSFORMS.build(dict(type="maskfeat.OpenVideoByTorchCodec", device="cpu"))(dict(filename=video))
    with pytest.raises(ValueError, match="a.* is not decoded by torchcodec"):
        reader["video_reader"].read([60])


@pytest.mark.skipif(USABLE, reason="torchcodec is installed")
def test_without_torchcodec_the_error_says_what_to_install():
    with pytest.raises(ConfigError, match="cannot be imported .*pip install torchcodec .*or use maskfeat.OpenVideo"):
        TRANSFORMS.build(dict(type="maskfeat.OpenVideoByTorchCodec"))
