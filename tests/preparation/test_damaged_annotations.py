"""Damaged annotations and records: one error that names the file, for any exception of the parser."""

import json
import random

import cv2
import numpy as np
import pytest

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.preparation import DataSettings, prepare_ava, prepare_coco, prepare_kinetics, prepare_sthv2
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.training_report.records import _non_finite
from maskfeat_plugin.training_report.run_folders import read_runs

COCO = dict(images=[dict(file_name="a.jpg", id=1)], annotations=[dict(image_id=1)], categories=[])
STHV2 = {
    "labels.json": {"Holding something": "0"},
    "train.json": [dict(id="1", template="Holding [something]")],
    "validation.json": [dict(id="2", template="Holding [something]")],
    "something-something-v2-labels.json": {"Holding something": "0"},
}
KINETICS = 'label,youtube_id,time_start,time_end,split\n"making tea",abc,1,11,train\nx,d,2,12,val\n'
DEEP = b"[" * 200_000


def settings(folder):
    return DataSettings((folder / "source",), folder / "root", check="none", progress=False)


@pytest.fixture
def coco(tmp_path):
    source = tmp_path / "source"
    for split in ("train2017", "val2017"):
        (source / split).mkdir(parents=True)
        cv2.imwrite(str(source / split / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
        (source / f"instances_{split}.json").write_text(json.dumps(COCO))
    return source / "instances_train2017.json", lambda: prepare_coco(settings(tmp_path))


@pytest.fixture
def sthv2(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, content in STHV2.items():
        (source / name).write_text(json.dumps(content))
    for name in "12":
        (source / f"{name}.webm").write_bytes(b"x")
    return source / "train.json", lambda: prepare_sthv2(settings(tmp_path))


@pytest.fixture
def kinetics(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.csv").write_text(KINETICS)
    for name in ("abc_000001_000011", "d_000002_000012"):
        (source / f"{name}.mp4").write_bytes(b"x")
    return source / "train.csv", lambda: prepare_kinetics(settings(tmp_path), 400)


DAMAGES = {
    "coco": [
        DEEP,
        b"\xff",
        b'{"images": 3}',
        b'{"images": [3]}',
        b'{"images": [{"file_name": "a.jpg", "id": 1}], "annotations": [{"image_id": []}]}',
        b'{"images": [{"file_name": ["a.jpg"], "id": {}}], "annotations": []}',
        b'{"images": [{"file_name": "a.jpg", "id": ' + b"9" * 5000 + b'}], "annotations": []}',
    ],
    "sthv2": [DEEP, b"\xff", b"null", b"[3]", b'[{"id": 1, "template": []}]', b'[{"id": 1, "template": {}}]'],
    "kinetics": [
        b"\xff",
        KINETICS.encode() + b'y,e,"' + b"x" * 200_000 + b'",3,train\n',
        KINETICS.encode() + b"y,e,inf,3,train\n",
        KINETICS.encode() + b"y,e,1e999,3,train\n",
        KINETICS.encode() + b"y,e,1\n",
        KINETICS.encode().replace(b"making tea", b"a\0b"),
        KINETICS.encode().replace(b"making tea", b".."),
        KINETICS.encode() + b"y,../../abc,1,2,train\n",
        KINETICS.encode() + b"y" * 300 + b",e,1,2,train\n",
    ],
}


@pytest.mark.parametrize("name, damage", [(name, i) for name, cases in DAMAGES.items() for i in range(len(cases))])
def test_damaged_annotations(name, damage, request):
    path, prepare = request.getfixturevalue(name)
    prepare()
    path.write_bytes(DAMAGES[name][damage])
    with pytest.raises(ConfigError) as error:
        prepare()
    assert path.name in str(error.value)


def fuzz(path, prepare, cases):
    """Check that a file with any content gives one error or none."""
    prepare()
    content = path.read_bytes()
    rng, refused = random.Random(0), 0
    for _ in range(cases):
        harmed = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            harmed[rng.randrange(len(harmed))] = rng.choice((0, 0x22, 0x30, 0x5B, 0x7B, 0xFF, rng.randrange(256)))
        path.write_bytes(harmed[: rng.choice((None, rng.randrange(len(harmed))))])
        try:
            prepare()
        except ConfigError:
            refused += 1
    return refused


@pytest.mark.parametrize("name", DAMAGES)
def test_random_bytes(name, request):
    assert fuzz(*request.getfixturevalue(name), 20) > 3


@pytest.mark.long
@pytest.mark.parametrize("name", DAMAGES)
def test_many_random_bytes(name, request):
    assert fuzz(*request.getfixturevalue(name), 2000) > 500


@pytest.mark.parametrize(
    "content", [b"{", DEEP, b"[]", b'{"short_side": null}', b'{"short_side": null, "repeated": 3}']
)
def test_settings_of_the_frames(content, tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir(), root.mkdir()
    for split in ("train", "val"):
        (source / f"ava_{split}_v2.2.csv").write_text("a,0902,0.1,0.1,0.9,0.9,12,1\n")
        (source / f"ava_{split}_excluded_timestamps_v2.2.csv").write_text("a,0903\n")
    labels = 'item {\n  name: "stand"\n  id: 12\n}\n'
    (source / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(labels)
    (root / "rawframes.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"rawframes\.json is damaged .*Remove it and .*rawframes"):
        prepare_ava(settings(tmp_path))


@pytest.mark.parametrize(
    "ending, content", [(".png", b"x"), (".npy", b"x"), (".npy", b""), (".pt", b"x"), (".pt", b"")]
)
def test_damaged_label_maps(ending, content, tmp_path):
    transform = TRANSFORMS.build(
        dict(type="maskfeat.LoadLabelMap", token_grid=(4, 4), data_root=tmp_path, label_root=tmp_path, suffix=ending)
    )
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\{ending} is no label map, or is damaged"):
        transform(dict(img_path=str(tmp_path / "a.jpg"), img=np.zeros((64, 64, 3), np.uint8)))


def test_records_of_a_training_that_are_damaged(tmp_path):
    """Lines that are no records are counted, and the other lines are kept."""
    data = tmp_path / "20260101_000000" / "vis_data"
    data.mkdir(parents=True)
    good = '{"loss": 0.5, "iter": 10, "step": 10}'
    bad = [
        "[" * 200_000,
        "{",
        "3",
        '{"loss": ' + "9" * 400 + ', "iter": 20, "step": 20}',
        '{"step": ' + "9" * 5000 + "}",
    ]
    (data / "scalars.json").write_text("\n".join([good, *bad, good.replace("10", "20")]) + "\n")
    (data.parent / f"{data.parent.name}.json").write_bytes(DEEP)
    for i, content in enumerate((DEEP, b"3", b'{"iteration": 3, "losses": 3}', b'{"iteration": 3, "samples": [4]}')):
        folder = tmp_path / "non_finite" / f"iter_{i}"
        folder.mkdir(parents=True)
        (folder / "report.json").write_bytes(content)
    (run,) = read_runs(tmp_path)
    assert run.train["loss"] == ([10, 20], [0.5, 0.5])
    assert run.unreadable == len(bad)
    assert _non_finite(tmp_path) == []
