"""File names that are not UTF-8 or contain tabs and line breaks: all tools read them, logs and lists escape them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from long_variants import long_except
from mmengine.registry import DefaultScope
from warm_python import python

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config
from maskfeat_plugin.apis.features.files import read_features
from maskfeat_plugin.config.input_kinds import IMAGES, VIDEOS
from maskfeat_plugin.config.input_pipeline import list_inputs
from maskfeat_plugin.preparation.readable import check_image, check_video
from maskfeat_plugin.registry import DATASETS, TRANSFORMS

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo"
WEIGHTS = DEMO / "weights" / "maskfeat_vit-tiny_moving-digits.pth"
STEMS = [
    b"\xff\xfe",
    b"caf\xe9",
    b"tab\there",
    b"line\nbreak",
    b"\x1b[31m",
    b"\r",
    b"\xed\xa0\x80",
    "Größe 東京".encode(),
]
NAMES = [os.fsdecode(stem) for stem in STEMS]
IMAGE = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))[1].tobytes()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")


def video():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for i in range(20):
            frame = np.full((64, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(IMAGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def tool(name, *arguments):
    """Run a tool in a separate process: OpenCV once ended it with a segmentation fault."""
    command = [python(), "-W", "ignore", str(ROOT / "tools" / name), *map(os.fsencode, arguments)]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", PYTHONUTF8="1")
    done = subprocess.run(command, capture_output=True, env=environment)
    assert b"Traceback" not in done.stderr and b"Logging error" not in done.stderr, done.stderr.decode()[-2000:]
    return done


def test_visualize(photos):
    done = tool("visualize.py", DEMO / "maskfeat_vit-tiny_moving-digits.py", WEIGHTS, "photos", "--out", "out")
    assert done.returncode == 0
    pictures = sorted(path.name for path in Path("out").iterdir())
    assert len(pictures) == len(NAMES) and all(name.isprintable() for name in pictures)
    assert "Größe_東京.png" in pictures


@pytest.mark.parametrize("ending", long_except(["npz", "parquet", "lmdb"], 1))
def test_extract(photos, ending):
    options = ["photos", "--out", f"features.{ending}"]
    assert tool("extract_features.py", DEMO / "maskfeat_vit-tiny_moving-digits.py", WEIGHTS, *options).returncode == 0
    names = read_features(f"features.{ending}").names
    assert len(names) == len(NAMES) and "photos/Größe 東京.jpg" in names and "photos/\\udcff\\udcfe.jpg" in names


def test_one_file_of_such_a_name_and_one_that_is_no_image(photos):
    assert [item.name for item in list_inputs([f"photos/{NAMES[0]}.jpg"], IMAGES, "a config")]
    broken = photos / f"{NAMES[0]}.png"
    broken.write_bytes(b"no image")
    done = tool("visualize.py", DEMO / "maskfeat_vit-tiny_moving-digits.py", WEIGHTS, "photos", "--out", "out")
    assert done.returncode == 1 and b"is no image that OpenCV reads" in done.stderr


def test_training_lists_bad_files_a_line_each(photos):
    for name in NAMES[:4]:
        (photos / f"{name}.jpg").write_bytes(IMAGE[:200])
    (photos / os.fsdecode(b"gone\xff\n.jpg")).symlink_to("nowhere")
    (photos / os.fsdecode(b"other\xfe.txt")).write_text("")
    config = photos.parent / "c.py"
    config.write_text(
        f"_base_ = {str(DEMO / 'maskfeat_vit-tiny_moving-digits.py')!r}\n"
        "train_dataloader = dict(batch_size=4, dataset=dict(type='maskfeat.SkipBadFiles', limit=0.9,\n"
        "    with_label=False, dataset_type='CustomDataset', data_root='photos', ann_file='', data_prefix=''))\n"
        "train_cfg = dict(max_iters=6)\ndefault_hooks = dict(logger=dict(interval=1))\n"
        "param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False)]\n"
    )
    assert tool("train.py", config, "--work-dir", "work").returncode == 0
    lines = Path("work/bad_files.txt").read_text().splitlines()
    assert len(lines) == 4 and all(line.count("\t") == 2 for line in lines)
    listed = {line.partition("\t")[0] for line in lines}
    assert listed == {f"photos/{n}.jpg" for n in (r"\udcff\udcfe", r"caf\udce9", r"tab\there", r"line\nbreak")}
    (log,) = Path("work").glob("*/*.log")
    assert r"photos/gone\udcff\n.jpg (dangling link)" in log.read_text()
    assert r"photos/tab\there.jpg" in log.read_text()


def test_class_folders_and_a_data_root_of_such_names(photos):
    for split in ("train", "val"):
        for name in NAMES[:2]:
            (photos / split / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"data_root='photos\\\\udcff' is not UTF-8") as error:
        build_trainer(
            load_config(
                DEMO / "maskfeat_vit-tiny_moving-digits.py",
                "work",
                {"train_dataloader.dataset.data_root": os.fsdecode(b"photos\xff")},
            )
        )
    str(error.value).encode()


def test_videos(tmp_path):
    content = video()
    for name in NAMES:
        (tmp_path / f"{name}.mp4").write_bytes(content)
        assert check_video(str(tmp_path / f"{name}.mp4")) is None
    assert len(list_inputs([str(tmp_path)], kind=VIDEOS, title="a config")) == len(NAMES)
    pipeline = [
        dict(type="maskfeat.OpenVideo"),
        dict(type="SampleFrames", clip_len=2),
        dict(type="maskfeat.DecodeClip"),
        dict(type="FormatShape", input_format="NCTHW"),
        dict(type="PackActionInputs"),
    ]
    with DefaultScope.overwrite_default_scope("mmaction"):
        data = DATASETS.build(
            dict(type="maskfeat.VideoDataset", data_prefix=dict(video=str(tmp_path)), pipeline=pipeline)
        )
    assert len(data) == len(NAMES) and all(data[i]["inputs"].shape == (1, 3, 2, 64, 64) for i in range(len(data)))


def test_images_and_label_maps(photos, tmp_path):
    load = TRANSFORMS.build(dict(type="maskfeat.LoadWholeImage"))
    labels = TRANSFORMS.build(
        dict(type="maskfeat.LoadLabelMap", token_grid=(4, 4), data_root="photos", label_root="maps", suffix=".png")
    )
    (tmp_path / "maps").mkdir()
    for name in NAMES:
        path = f"photos/{name}.jpg"
        assert check_image(path, "full") is None and load(dict(img_path=path))["img"].shape == (64, 64, 3)
        (tmp_path / "maps" / f"{name}.png").write_bytes(cv2.imencode(".png", np.eye(8, dtype=np.uint8))[1].tobytes())
        found = labels(dict(img_path=path, crop_region=(0, 0, 1, 1)))["label_map"]
        assert found.shape == (2, 16, 1, 4, 4)
