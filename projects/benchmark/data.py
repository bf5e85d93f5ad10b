"""Comparison of data pipelines for video pre-training, from files to a batch."""

import random
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from mmengine.dataset import Compose, pseudo_collate

from maskfeat_plugin.datasets.moving_digits.sources import load_photos

from .measuring import Comparison, Work
from .plain_masks import cubes_by_loops

_SIZE = (256, 340)
_FRAMES = 300
_CLIPS = 4
_GRID, _WINDOWS = (8, 14, 14), (8, 7, 7)
_RATIO = 0.4


def data_comparison(folder: Path) -> Comparison:
    """Compare the pipeline of the Kinetics-400 pre-training configs with mmaction2's own transforms.

    Both give the same clips: the same random numbers lead to the same frames, crops and flips.

    Args:
        folder (Path): Folder for the video that both read.

    Returns:
        Comparison: Decoding, cropping, flipping, masking and collating a batch of 4 clips.
    """

    def build() -> tuple[Work, Work]:
        path = folder / "kinetics.mp4"
        write_kinetics_like(path)
        sampling = dict(type="mmaction.SampleFrames", clip_len=16, frame_interval=4, num_clips=1)
        layout = dict(type="mmaction.FormatShape", input_format="NCTHW")
        packing = dict(type="mmaction.PackActionInputs", algorithm_keys=("mask",))
        ours = Compose(
            [
                dict(type="maskfeat.OpenVideo"),
                sampling,
                dict(type="maskfeat.DecodeClip"),
                dict(type="maskfeat.RandomResizedCropFlip", scale=(224, 224), area_range=(0.5, 1.0)),
                layout,
                dict(type="maskfeat.CubeMaskGenerator", token_grid=_GRID, window_size=_WINDOWS, mask_ratio=_RATIO),
                packing,
            ]
        )
        theirs = Compose(
            [
                dict(type="mmaction.DecordInit"),
                sampling,
                dict(type="mmaction.DecordDecode"),
                dict(type="mmaction.RandomResizedCrop", area_range=(0.5, 1.0)),
                dict(type="mmaction.Resize", scale=(224, 224), keep_ratio=False),
                dict(type="mmaction.Flip", flip_ratio=0.5),
                layout,
                _add_mask_by_loops,
                packing,
            ]
        )
        return lambda: _batch(ours, path), lambda: _batch(theirs, path)

    job = f"K400-style clip, decode, crop, flip, mask, collate, batch of {_CLIPS}"
    return Comparison(job, "mmaction2", build)


def write_kinetics_like(path: Path, options: dict[str, str] | None = None, size: tuple[int, int] = _SIZE) -> None:
    """Write a video of 10 s with 30 frames per second, in H.264 with x264's defaults.

    A camera with some noise moves over a photograph, and parts of another photograph move on it. There is a cut in the
    middle. Every call writes the same frames.

    Args:
        path (Path): File to write.
        options (dict[str, str], optional): Settings of x264. Defaults to None, the defaults of x264.
        size (tuple[int, int]): Height and width. Defaults to 256 x 340.
    """
    photos = load_photos()
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for i in range(_FRAMES):
            frame = draw_frame(photos, i, rng, size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def draw_frame(
    photos: Sequence[np.ndarray], number: int, rng: np.random.Generator, size: tuple[int, int] = _SIZE
) -> np.ndarray:
    """Draw a frame of the video.

    Args:
        photos (Sequence[np.ndarray]): Two photographs.
        number (int): Number of the frame.
        rng (np.random.Generator): Generator of the noise.
        size (tuple[int, int]): Height and width. Defaults to 256 x 340.

    Returns:
        np.ndarray: uint8 (H, W, 3).
    """
    (height, width), time = size, number / 30
    shot = 2 * number // _FRAMES
    photo, other = photos[shot], photos[1 - shot]
    zoom = 0.7 + 0.2 * np.sin(0.3 * time)
    camera = np.array(
        [
            [zoom, 0.03 * np.sin(0.9 * time), -40 - 30 * np.sin(0.4 * time)],
            [0.03 * np.cos(0.5 * time), zoom, -30 - 20 * np.cos(0.6 * time)],
        ],
        np.float32,
    )
    frame = cv2.warpAffine(photo, camera, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    for k in range(3):
        x = round((width - 60) * (0.5 + 0.5 * np.sin(0.8 * time + 2 * k)))
        y = round((height - 60) * (0.5 + 0.5 * np.cos(0.6 * time + k)))
        frame[y : y + 60, x : x + 60] = other[100 + 40 * k : 160 + 40 * k, 150 + 60 * k : 210 + 60 * k]
    noise = rng.normal(0, 3, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def _add_mask_by_loops(results: dict) -> dict:
    """Draw the same kind of mask as the pipeline, patch by patch."""
    mask = cubes_by_loops(_WINDOWS, _RATIO)
    for axis, (whole, windows) in enumerate(zip(_GRID, _WINDOWS, strict=True)):
        mask = mask.repeat(whole // windows, axis)
    results["mask"] = mask
    return results


def _batch(pipeline: Compose, path: Path) -> dict:
    """Read a batch of clips from random parts of the video. Every call reads the same parts."""
    clips = []
    for seed in range(_CLIPS):
        np.random.seed(seed)
        random.seed(seed)
        clips.append(pipeline(dict(filename=str(path), start_index=0, modality="RGB", label=0)))
    return pseudo_collate(clips)
