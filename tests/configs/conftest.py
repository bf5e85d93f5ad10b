"""Real image and video files for the data sets of all configs."""

import json
import pickle
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from maskfeat_plugin.datasets.synthetic_signals import build_solids, build_sounds

ROOT = Path(__file__).parents[2]
IMAGE_SETS = ("ImageNet", "CustomDataset", "ImageDataset")
VIDEO_SETS = ("VideoDataset", "RepeatAugDataset")


def write_video(path, frames):
    """Write an H.264 file of frames (T, H, W, 3), uint8 RGB."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Write two images and two clips with labels, in the layouts of ImageNet, Kinetics, AVA, COCO and ADE20K."""
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
    write_ava(root / "ava", frames)
    write_coco(root)
    write_masks(root)
    build_sounds(root / "sounds", num_train=8, num_test=8, num_labelled=8)
    build_solids(root / "solids", num_train=8, num_test=8, num_labelled=8)
    return root


def write_ava(root, frames):
    """Write raw frames of the first second after 900 s, two people at second 901, and proposals like a detector's."""
    for name, clip in zip(("aaa", "bbb"), frames, strict=True):
        (root / "rawframes" / name).mkdir(parents=True)
        for number in range(60):
            cv2.imwrite(str(root / "rawframes" / name / f"img_{number + 1:05d}.jpg"), clip[number % len(clip)])
    boxes = np.array([[0.1, 0.2, 0.5, 0.9], [0.4, 0.1, 0.8, 0.7]])
    rows = []
    for name in ("aaa", "bbb"):
        for person, box in enumerate(boxes):
            corners = ",".join(f"{corner:.3f}" for corner in box)
            rows += [f"{name},0901,{corners},{action},{person}" for action in (1 + person, 12)]
    (root / "annotations.csv").write_text("\n".join(rows) + "\n")
    (root / "excluded.csv").write_text("aaa,0905\n")
    label_map = "".join(f'item {{\n  name: "action {i}"\n  id: {i}\n}}\n' for i in range(1, 81))
    (root / "actions.pbtxt").write_text(label_map)
    found = np.concatenate([boxes, np.full((2, 1), 0.95)], axis=1)
    with open(root / "proposals.pkl", "wb") as file:
        pickle.dump({f"{name},0901": found for name in ("aaa", "bbb")}, file)


def annotations_of(dataset):
    """Return the instances with COCO's names, or with the first names of a config that has its own names."""
    return "instances.json" if "metainfo" not in dataset else "digits.json"


def write_coco(root):
    """Write the instances of the two images: two boxes each, with polygons; also as digits."""
    annotations = []
    for image in (0, 1):
        for x, y, w, h, category in ((8, 16, 60, 50, 1), (70, 10, 40, 80, 3)):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO["classes"]
    content = dict(
        images=[dict(id=i, file_name=f"{i}.jpg", width=128, height=96) for i in (0, 1)],
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(names)],
    )
    (root / "instances.json").write_text(json.dumps(content))
    content["categories"] = [dict(id=i + 1, name=str(i)) for i in range(10)]
    (root / "digits.json").write_text(json.dumps(content))


def write_masks(root):
    """Write the classes of the pixels of the two images: rectangles of 1 and 3 on 0."""
    (root / "masks").mkdir()
    for image in (0, 1):
        mask = np.zeros((96, 128), np.uint8)
        mask[16:66, 8:68] = 1
        mask[10:90, 70:110] = 3
        cv2.imwrite(str(root / "masks" / f"{image}.png"), mask)


@pytest.fixture
def use_data(data_root):
    """Return a function that makes a data set's config use these files."""

    def use(dataset):
        kind = dataset.get("dataset_type", dataset.type).rpartition(".")[2]
        if "LoadSpectrogram" in str(dataset.pipeline):
            ann_file = "" if kind == "ImageDataset" else "train.txt"
            dataset.update(data_root=str(data_root / "sounds"), ann_file=ann_file)
        elif "OpenVolume" in str(dataset.pipeline):
            solids = str(data_root / "solids")
            dataset.update(data_root="", ann_file=f"{solids}/train.txt", data_prefix=dict(video=solids))
        elif kind in IMAGE_SETS:
            dataset.pop("split", None)
            # a folder without labels is searched
            ann_file = "" if kind == "ImageDataset" else "meta/train.txt"
            dataset.update(data_root=str(data_root), ann_file=ann_file, data_prefix="train")
        elif kind in VIDEO_SETS:
            dataset.update(data_root=str(data_root), ann_file="videos.txt", data_prefix=dict(video="videos"))
        elif kind == "AVADataset" and dataset.get("use_frames", True):
            ava = data_root / "ava"
            dataset.update(
                ann_file=str(ava / "annotations.csv"),
                exclude_file=str(ava / "excluded.csv"),
                label_file=str(ava / "actions.pbtxt"),
                proposal_file=str(ava / "proposals.pkl"),
                data_prefix=dict(img=str(ava / "rawframes")),
            )
        elif kind == "AVADataset":
            videos = data_root / "ava-videos.csv"
            videos.write_text("".join(f"{i}.mp4,0000,0.1,0.2,0.5,0.9,{i + 1},0\n" for i in (0, 1)))
            dataset.update(
                ann_file=str(videos),
                exclude_file=str(data_root / "ava" / "excluded.csv"),
                label_file=str(data_root / "ava" / "actions.pbtxt"),
                data_prefix=dict(img=str(data_root / "videos")),
            )
        elif kind in ("ADE20KDataset", "BaseSegDataset"):
            prefix = dict(img_path="train", seg_map_path="masks")
            dataset.update(data_root=str(data_root), ann_file="", img_suffix=".jpg", data_prefix=prefix)
        elif kind == "CocoDataset":
            dataset.update(data_root=str(data_root), ann_file=annotations_of(dataset), data_prefix=dict(img="train"))
        else:
            pytest.fail(f"no data for {dataset.type}: teach tests/configs/conftest.py to write some")

    return use
