"""Folders of images and videos: all endings that the tools read, and a reason for each skipped file."""

import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config
from maskfeat_plugin.config.input_kinds import IMAGES
from maskfeat_plugin.config.input_pipeline import list_inputs
from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, VIDEO_ENDINGS, find_files, printable
from maskfeat_plugin.preparation.files import Tree
from maskfeat_plugin.registry import DATASETS, TRANSFORMS

ROOT = Path(__file__).parents[2]
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def write_image(path):
    kinds = {".jfif": ".jpg", ".pgm": ".pgm", ".pbm": ".pbm"}
    kind = kinds.get(path.suffix.lower(), path.suffix.lower())
    picture = PICTURE[..., 0] if kind in (".pgm", ".pbm") else PICTURE
    path.write_bytes(cv2.imencode(kind, picture)[1].tobytes())


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return a folder with a photo of every ending, and with other files that occur beside photos."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for i, ending in enumerate(IMAGE_ENDINGS):
        write_image(folder / ("deep/er" if i % 2 else ".") / f"{i}{ending.upper() if i % 3 else ending}")
    (folder / "notes.txt").write_text("none")
    (folder / "raw.heic").write_bytes(b"0")
    (folder / "._0.jpg").write_bytes(b"macOS")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    monkeypatch.chdir(tmp_path)
    return folder


LEFT_OUT = ("2 of another ending", ".heic: 1", ".txt: 1", "1 hidden", "gone.jpg (dangling link)")


def test_training_reads_every_ending_and_says_what_it_leaves_out(photos):
    config = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
    keys = dict(data_root="photos", ann_file="", data_prefix="", with_label=False)
    build_trainer(load_config(config, "work", {f"train_dataloader.dataset.{key}": keys[key] for key in keys}))
    (log,) = Path("work").glob("*/*.log")
    text = log.read_text()
    assert f"train_dataloader.dataset: {len(IMAGE_ENDINGS)} samples of photos are used." in text
    line = next(line for line in text.splitlines() if "left out in photos" in line)
    assert all(part in line for part in LEFT_OUT)


def test_endings_of_the_config_come_first(photos):
    config = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
    keys = dict(data_root="photos", ann_file="", data_prefix="", with_label=False, extensions=[".webp"])
    runner = build_trainer(load_config(config, "work", {f"train_dataloader.dataset.{key}": keys[key] for key in keys}))
    assert len(runner.train_dataloader.dataset) == 1


def test_tools_read_the_same_files(photos, caplog):
    (photos / "itself.png").symlink_to("itself.png")
    items = list_inputs(["photos"], kind=IMAGES, title="a config")
    assert len(items) == len(IMAGE_ENDINGS)
    assert all(part in caplog.text for part in (*LEFT_OUT, "itself.png ("))
    tree = Tree([photos])
    assert len(tree.ending(IMAGE_ENDINGS)) == len(IMAGE_ENDINGS)
    assert [text.rpartition("/")[2] for text in tree.broken][0] == "gone.jpg (dangling link)"


def test_every_ending_is_read_by_training_and_by_pillow(photos):
    load = TRANSFORMS.build(dict(type="maskfeat.LoadWholeImage"))
    for path in find_files(photos, IMAGE_ENDINGS).files:
        assert load(dict(img_path=str(path)))["img"].shape == (64, 64, 3)
        assert Image.open(path).size == (64, 64)


def write_video(path):
    with av.open(str(path), "w") as container:
        codec = dict(webm="libvpx", ogv="libtheora").get(path.suffix[1:], "mpeg4")
        codec = dict(mpg="mpeg2video", mpeg="mpeg2video", ts="mpeg2video", flv="flv1", wmv="wmv2").get(
            path.suffix[1:], codec
        )
        stream = container.add_stream(codec, rate=25)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(PICTURE[:32, :32].copy(), "rgb24")))
        container.mux(stream.encode())


def test_videos_of_every_ending(tmp_path):
    for i, ending in enumerate(VIDEO_ENDINGS):
        write_video(tmp_path / f"{i:02d}{ending}")
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    with DefaultScope.overwrite_default_scope("mmaction"):
        data = DATASETS.build(
            dict(
                type="maskfeat.VideoDataset",
                data_prefix=dict(video=str(tmp_path)),
                pipeline=[
                    dict(type="maskfeat.OpenVideo"),
                    dict(type="SampleFrames", clip_len=2),
                    dict(type="maskfeat.DecodeClip"),
                    dict(type="FormatShape", input_format="NCTHW"),
                    dict(type="PackActionInputs"),
                ],
            )
        )
    assert len(data) == len(VIDEO_ENDINGS)
    assert all(data[i]["inputs"].shape == (1, 3, 2, 32, 32) for i in range(len(data)))
    line = find_files(tmp_path, VIDEO_ENDINGS).describe_skipped()
    assert "gone.mp4 (dangling link)" in line and "linked (link to a folder)" in line


def test_links_are_followed_once(tmp_path):
    (tmp_path / "a").mkdir()
    write_image(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    found = find_files(tmp_path, IMAGE_ENDINGS, follow_links=True)
    assert [path.name for path in found.files] == ["0.png"] and not found.broken


FORBIDDEN = """
import os, sys
from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, find_files
from maskfeat_plugin.preparation.files import Tree
os.setuid(65534)
found = find_files(sys.argv[1], IMAGE_ENDINGS)
print([path.name for path in found.files], found.describe_skipped(), Tree([sys.argv[1]]).broken)
"""


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="needs root to become a user who may not read")
def test_folders_that_may_not_be_read_are_named():
    import tempfile

    with tempfile.TemporaryDirectory() as name:  # other users cannot read pytest's own folders
        folder = Path(name)
        folder.chmod(0o755)
        write_image(folder / "0.png")
        (folder / "secret").mkdir(mode=0o700)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORBIDDEN, name], capture_output=True, text=True, cwd=ROOT
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("secret (folder: Permission denied)") == 2 and "['0.png']" in done.stdout


def test_a_folder_of_other_files_says_which(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"0")
    (tmp_path / "b.jpg").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"left out: 1 of another ending \(.heic: 1\); .*b.jpg \(dangling link\)"):
        list_inputs([str(tmp_path)], kind=IMAGES, title="a config")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain \xc3\xb6.jpg", "plain ö.jpg"),
        (b"tab\tline\nend\r.jpg", r"tab\tline\nend\r.jpg"),
        (b"\xff\xfe.jpg", r"\udcff\udcfe.jpg"),
        (b"\x1b[31m.jpg", r"\x1b[31m.jpg"),
    ],
)
def test_names_for_a_line_of_text(name, shown):
    assert printable(os.fsdecode(name)) == shown
    printable(os.fsdecode(name)).encode()


def test_knn_and_extraction_complete_the_endings(photos):
    from maskfeat_plugin.config.folder_data import complete_endings

    cfg = Config(
        dict(
            default_scope="mmpretrain",
            val_dataloader=dict(dataset=dict(type="CustomDataset", data_root="photos", pipeline=[])),
            train_dataloader=dict(dataset=dict(type="ImageNet", data_root="photos", split="train", pipeline=[])),
            custom_hooks=[
                dict(
                    type="maskfeat.KNNHook",
                    query_dataloader=dict(dataset=dict(type="CustomDataset", data_root="photos")),
                )
            ],
        )
    )
    complete_endings(cfg)
    assert ".webp" in cfg.val_dataloader.dataset.extensions and ".tiff" in cfg.train_dataloader.dataset.extensions
    assert ".webp" in cfg.custom_hooks[0].query_dataloader.dataset.extensions
