"""Data of an imaginary user under the file names of the tutorials. No data set of this package writes these files."""

import json

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

CHINA, FLOWER = load_sample_images().images  # (427, 640, 3), uint8 RGB


def write_own_data(project):
    """Write all data into a folder."""
    rng = np.random.default_rng(0)
    write_images(project / "my_images", rng)
    write_videos(project / "my_videos", rng)
    write_photos(project / "my_photos", rng)
    write_clips(project / "my_clips", rng)
    write_boxes(project / "my_boxes", rng)
    write_ava(project / "my_ava", rng)


def write_images(root, rng):
    """Write 16 images of two sizes, some in a sub-folder."""
    for i in range(16):
        save(crop((CHINA, FLOWER)[i % 2], (240 + i, 300), rng), root / ("more" if i < 4 else ".") / f"{i}.jpg")


def write_videos(root, rng, count=6):
    """Write videos of a panning camera, the sixth in a sub-folder."""
    for i in range(count):
        path = root / ("more" if i == 5 else ".") / f"{i}.mp4"
        write_video(path, pan(crop((CHINA, FLOWER)[i % 2], (144, 400), rng), (144, 192), 70, speed=3))


def write_photos(root, rng):
    """Write images into a folder for each class."""
    for split, count in (("train", 8), ("val", 4)):
        for name, picture in (("china", CHINA), ("flower", FLOWER)):
            for i in range(count):
                save(crop(picture, (96, 96), rng), root / split / name / f"{i}.jpg")


def write_clips(root, rng):
    """Write videos of a camera that pans to the left or to the right, and lists of the videos with labels."""
    names = []
    for i in range(6):
        frames = pan(crop(CHINA, (64, 160), rng), (64, 64), 24, speed=3)
        for label, (name, clip) in enumerate((("left", frames), ("right", frames[::-1]))):
            write_video(root / name / f"{i}.mp4", clip)
            names.append((label, f"{name}/{i}.mp4 {label}"))
    names = [line for _, line in sorted(names, key=lambda pair: pair[0])]
    (root / "train.txt").write_text("\n".join(names[:4] + names[6:10]) + "\n")
    (root / "val.txt").write_text("\n".join(names[4:6] + names[10:]) + "\n")


def write_boxes(root, rng, count=6):
    """Write photographs with flowers, ``count`` for each split, and the boxes of the flowers in the format of COCO."""
    for split in ("train", "val"):
        images, annotations = [], []
        for i in range(count):
            picture = crop(CHINA, (80, 80), rng)
            y, x = rng.integers(0, 40, 2).tolist()
            picture[y : y + 40, x : x + 40] = FLOWER[100:340:6, 180:420:6]
            name = f"{split}_{i}.jpg"
            save(picture, root / "images" / name)
            images.append(dict(id=i, file_name=name, width=80, height=80))
            annotations.append(dict(id=i + 1, image_id=i, category_id=1, bbox=[x, y, 40, 40], area=1600, iscrowd=0))
        content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="flower")])
        (root / f"{split}.json").write_text(json.dumps(content))


def write_ava(root, rng):
    """Write clips of flowers that move to the left or right: 3 seconds, 10 frames per second, boxes at second 1."""
    rows = []
    for i in range(8):
        frames = np.stack([crop(CHINA, (64, 64), np.random.default_rng(i))] * 30)
        start, step = ((33, -2), (11, 2))[i % 2]
        for t, frame in enumerate(frames):
            left = min(max(start + step * t, 0), 44)
            frame[16:36, left : left + 20] = FLOWER[100:340:12, 180:420:12]
        write_video(root / "videos" / f"{i}.mp4", frames, rate=10)
        left = start + step * 10
        box = ",".join(f"{corner / 64:.4f}" for corner in (left, 16, left + 20, 36))
        rows.append(f"{i}.mp4,0001,{box},{i % 2 + 1},0")
    (root / "train.csv").write_text("\n".join(rows[:6]) + "\n")
    (root / "val.csv").write_text("\n".join(rows[6:]) + "\n")
    (root / "excluded.csv").write_text("")
    names = ("left", "right")
    labels = (f'label {{\n  name: "{name}"\n  label_id: {i}\n}}\n' for i, name in enumerate(names, start=1))
    (root / "actions.pbtxt").write_text("".join(labels))


def crop(picture, size, rng):
    """Return a copy of a random part."""
    y, x = (int(rng.integers(0, full - part + 1)) for full, part in zip(picture.shape, size, strict=False))
    return picture[y : y + size[0], x : x + size[1]].copy()


def pan(picture, size, frames, speed):
    """Return frames (T, h, w, 3) of a window that moves over a picture and stops at the picture's end."""
    last = picture.shape[1] - size[1]
    return np.stack([picture[: size[0], x : x + size[1]] for x in (min(speed * t, last) for t in range(frames))])


def save(picture, path):
    """Write a JPEG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=95)


def write_video(path, frames, rate=25):
    """Write an H.264 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
