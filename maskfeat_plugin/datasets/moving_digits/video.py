"""Functions that write and check the H.264 videos of MovingDigits."""

from pathlib import Path

import numpy as np
from mmaction.datasets.transforms import DecordDecode, DecordInit
from mmengine.fileio import LocalBackend

from .sources import import_demo_package

# Without `mbtree=0`, about one clip of 64 x 64 in ten sometimes has other bytes, even with one thread and the same
# frames. B-frames are turned off as well; turning them off alone is enough too.
_OPTIONS = {"crf": "18", "g": "8", "bf": "0", "preset": "veryfast", "x264-params": "mbtree=0"}


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Write an H.264 mp4 file (yuv420p, constant rate factor 18, a key frame at least every 8 frames).

    The encoder runs on one thread, so the bytes depend only on the frames and the installed encoder.

    Args:
        path: File to write.
        frames: uint8 (T, H, W, 3) RGB, H and W even.
        fps: Frames per second.

    Raises:
        ImportError: If PyAV is missing.
        RuntimeError: If PyAV was built without an H.264 encoder.
    """
    av = import_demo_package("av")
    with av.open(str(path), mode="w", format="mp4") as container:
        try:
            stream = container.add_stream("libx264", rate=fps, options=_OPTIONS)
        except ValueError as error:  # av.codec.codec.UnknownCodecError
            raise RuntimeError("MovingDigits needs a build of PyAV (av) with the encoder libx264") from error
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def check_size(folder: Path, num_frames: int, size: int, fps: int) -> None:
    """Check that mmaction2 can read videos of a size. Its default decoder, decord, fails on a few, such as 48 and 72.

    Args:
        folder: Folder for a temporary video.
        num_frames: Number of frames of the video.
        size: Its side in pixels.
        fps: Frames per second.

    Raises:
        ValueError: If it cannot.
    """
    path = folder / "size.mp4"
    write_video(path, np.zeros((num_frames, size, size, 3), np.uint8), fps)
    try:
        check_video(path, num_frames, size)
    except RuntimeError as error:
        raise ValueError(
            f"MovingDigits: mmaction2's decoder cannot read videos of size {size}. "
            f"Choose another size, best a multiple of 32 such as {max(round(size / 32), 2) * 32}."
        ) from error
    finally:
        path.unlink()


def check_video(path: Path, num_frames: int, size: int) -> None:
    """Decode a video with mmaction2's default decoder.

    Raises:
        RuntimeError: If the file does not decode, or has another number or size of frames.
    """
    try:
        opening = DecordInit()
        opening.file_client = LocalBackend()  # the FileClient that DecordInit would use gives a deprecation warning
        opened = opening(dict(filename=str(path)))
        frames = DecordDecode()(dict(opened, frame_inds=np.arange(opened["total_frames"])))["imgs"]
    except Exception as error:  # decoders can raise any error
        raise RuntimeError(f"{path} does not decode: {error}") from error
    shape = np.shape(frames)
    if shape != (num_frames, size, size, 3):
        raise RuntimeError(f"{path} decodes to {shape} instead of {(num_frames, size, size, 3)}")
