"""Configs and data with inputs twice as wide as high, made from the demo's configs, for tests."""

import copy
from pathlib import Path

import cv2
import numpy as np

from maskfeat_plugin.apis import load_config
from maskfeat_plugin.datasets.moving_digits.video import write_video

DEMO = Path(__file__).parents[1] / "configs" / "demo"
HEIGHT, WIDTH, FRAMES = 32, 64, 8
CLASSES = 2
SCENES = 8


def draw_scene(number, height=60, width=120):
    """Draw a picture of one of two classes: the left half is bright (even numbers), or the top half (odd numbers)."""
    canvas = np.full((height, width, 3), 60, np.uint8)
    if number % CLASSES:
        canvas[: height // 2] = 200
    else:
        canvas[:, : width // 2] = 200
    cv2.circle(canvas, (10 + 12 * number, 20), 8, (20 * number, 255 - 20 * number, 90), -1)
    return canvas


def write_scenes(folder):
    """Write images and videos with their labels; return the folder."""
    (folder / "images").mkdir(parents=True)
    (folder / "videos").mkdir()
    lines = dict(images=[], videos=[])
    for number in range(SCENES):
        scene = draw_scene(number)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), scene[..., ::-1])
        frames = np.stack([np.roll(scene, 2 * t, axis=1) for t in range(20)])
        write_video(folder / "videos" / f"{number}.mp4", frames, 10)
        lines["images"].append(f"{number}.png {number % CLASSES}\n")
        lines["videos"].append(f"{number}.mp4 {number % CLASSES}\n")
    for kind, entries in lines.items():
        (folder / f"{kind}.txt").write_text("".join(entries))
    return folder


def _dataset(dataset, folder, pipeline):
    kind = "videos" if dataset.type == "VideoDataset" else "images"
    prefix = dict(video=str(folder / "videos")) if kind == "videos" else "images"
    dataset.update(data_root="" if kind == "videos" else str(folder), data_prefix=prefix, pipeline=pipeline)
    dataset.ann_file = str(folder / "videos.txt") if kind == "videos" else "images.txt"


def rectangular(name, folder, work_dir, **options):
    """Load a config of the demo, changed to 32 x 64 pixels."""
    settings = {"param_scheduler": [dict(type="ConstantLR", factor=1.0, by_epoch=False)], "train_cfg.max_iters": 2}
    cfg = load_config(str(DEMO / f"{name}.py"), str(work_dir), {**settings, **options})
    masked = name.startswith("maskfeat")
    tail = [dict(type="PackInputs")]
    if "mvit" in name:
        head = [
            dict(type="DecordInit"),
            dict(type="SampleFrames", clip_len=FRAMES, frame_interval=2, num_clips=1, test_mode=True),
            dict(type="DecordDecode"),
        ]
        train = [dict(type="maskfeat.RandomResizedCropFlip", scale=(WIDTH, HEIGHT), aspect_ratio_range=(1.5, 2.5))]
        test = [
            dict(type="Resize", scale=(80, 40), keep_ratio=False),
            dict(type="CenterCrop", crop_size=(WIDTH, HEIGHT)),
        ]
        tail = [dict(type="FormatShape", input_format="NCTHW"), dict(type="PackActionInputs")]
        mask = dict(type="maskfeat.CubeMaskGenerator", token_grid=(FRAMES // 2, HEIGHT // 8, WIDTH // 8))
        if masked:
            tail[-1]["algorithm_keys"] = ("mask",)
    else:
        head = [dict(type="LoadImageFromFile")]
        train = [dict(type="Resize", scale=(80, 40)), dict(type="RandomCrop", crop_size=(HEIGHT, WIDTH))]
        test = [dict(type="Resize", scale=(80, 40)), dict(type="CenterCrop", crop_size=(WIDTH, HEIGHT))]
        mask = dict(type="maskfeat.BlockMaskGenerator", token_grid=(HEIGHT // 8, WIDTH // 8))
        cfg.model.backbone.img_size = (HEIGHT, WIDTH)
    if masked:
        tail.insert(-1, mask)
    _dataset(cfg.train_dataloader.dataset, folder, [*head, *train, *tail])
    cfg.train_dataloader.batch_size = 4
    for key in ("val_dataloader", "test_dataloader"):
        if cfg.get(key):
            _dataset(cfg[key].dataset, folder, copy.deepcopy([*head, *test, *tail]))
            cfg[key].batch_size = 4
    return cfg
