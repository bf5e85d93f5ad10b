"""The path of a sample is found in the samples of every framework's data sets."""

import json

import pytest
from mmengine.registry import DATASETS

from maskfeat_plugin.datasets.sample_paths import sample_path

COCO = dict(
    images=[dict(id=1, file_name="a.jpg", width=8, height=8)],
    annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4], area=16, iscrowd=0)],
    categories=[dict(id=1, name="one")],
)
SETTINGS = {
    "mmaction.VideoDataset": dict(ann_file="videos.txt", data_prefix=dict(video="data")),
    "mmaction.RawframeDataset": dict(ann_file="frames.txt", data_prefix=dict(img="data")),
    "mmpretrain.CustomDataset": dict(ann_file="images.txt", data_prefix="data"),
    "mmdet.CocoDataset": dict(ann_file="coco.json", data_prefix=dict(img="data"), metainfo=dict(classes=("one",))),
    "maskfeat.VideoDataset": dict(ann_file="videos.txt", data_prefix=dict(video="data")),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_samples_of_a_data_set(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"videos.txt": "a.mp4 0", "frames.txt": "a 30 0", "images.txt": "a.jpg 0"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    dataset = DATASETS.build(dict(type=kind, pipeline=[], **SETTINGS[kind]))
    path = sample_path(dataset.get_data_info(0))
    assert path.startswith("data/a") and path.rpartition(".")[2] in ("mp4", "jpg", "data/a")


def test_a_sample_of_no_file():
    assert sample_path(dict(img_path="", filename=None, label=3)) is None
