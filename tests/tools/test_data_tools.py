"""Tests of data preparation: tiny official downloads become the files that configs read, and errors are reported."""

import importlib.util
import io
import json
import os
import pickle
import re
import shlex
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from tool_modules import load_tool

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.datasets.moving_digits.video import write_video

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text()
TOOLS = ("imagenet", "kinetics", "sthv2", "ava", "coco")
WNIDS = ("n01440764", "n01443537", "n02084071")


@pytest.fixture
def run(tmp_path, capsys):
    """Function that runs a tool on ``downloads`` and returns its status, its lines and its report."""

    def run_tool(name, *options, sources=("downloads",), root="root", dataset=None):
        arguments = [*(str(tmp_path / source) for source in sources), "--root", str(tmp_path / root), "--quiet"]
        status = load_tool(f"data/{name}").main([*arguments, "--workers", "2", *options])
        captured = capsys.readouterr()
        path = tmp_path / root / f"{dataset or name}_report.json"
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == (1 if status else 0)
        return status, captured.out + "".join(errors), json.loads(path.read_text()) if path.is_file() else None

    return run_tool


def build(config, loader, **changes):
    """Build the data set of a config on the prepared data."""
    cfg = Config.fromfile(ROOT / "configs" / config)
    dataset = cfg[f"{loader}_dataloader"].dataset
    dataset.update(changes)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        built = DATASETS.build(dataset)
        return built, built[0]


def contents(root):
    """Return the content of every file below a root, without times in the report, and the targets of links."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file() and path.name.endswith("_report.json"):
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("seconds", "used")}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def picture(seed, size=(48, 64)):
    """Return the bytes of a JPEG file."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def clip(path, seed=0, frames=20):
    """Write a video file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (frames, 1, 1, 3), dtype=np.uint8)
    write_video(path, np.broadcast_to(values, (frames, 64, 64, 3)), 10)


def add(tar, name, content):
    """Add a file to an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def tar_bytes(files, mode="w"):
    """Return an archive with the given files (name -> content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            add(tar, name, content)
    return buffer.getvalue()


# ImageNet-1k


def development_kit(wnids, truth):
    """Return the archive of the development kit. Its class numbers do not follow the order of the class names."""
    rows = np.zeros(len(wnids) + 1, [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")])
    for index, wnid in enumerate(wnids):
        rows[index] = (index + 1, wnid, "a thing", 0)
    rows[-1] = (len(wnids) + 1, "n00001740", "things", 2)
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": rows.reshape(-1, 1)})
    lines = "".join(f"{wnids.index(wnid) + 1}\n" for wnid in truth)
    base = "ILSVRC2012_devkit_t12/data/"
    files = {f"{base}meta.mat": buffer.getvalue(), f"{base}ILSVRC2012_validation_ground_truth.txt": lines.encode()}
    return tar_bytes(files, "w:gz")


@pytest.fixture
def imagenet(tmp_path):
    """ImageNet's archives with 2 of the 1000 classes: n01440764 is class 1 and n01443537 is class 2."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    train = {
        f"{wnid}.tar": tar_bytes({f"{wnid}_{i}.JPEG": picture(i) for i in range(3)} | {f"{wnid}_bad.JPEG": b"no"})
        for wnid in WNIDS[:2]
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(train))
    val = {f"ILSVRC2012_val_{i:08d}.JPEG": picture(i) for i in (1, 2, 4)}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(val))
    wnids = [f"n{number:08d}" for number in [1, *range(9_000_000, 9_000_997)]] + list(WNIDS[:2])
    truth = [WNIDS[1], WNIDS[0], WNIDS[0], "n00000001"]
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(development_kit(wnids, truth))
    return folder


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_imagenet_archives(imagenet, tmp_path, run):
    status, text, report = run("imagenet")
    assert status == 0
    root = tmp_path / "root"
    good = [f"{wnid}/{wnid}_{i}.JPEG {number}" for number, wnid in enumerate(WNIDS[:2], 1) for i in range(3)]
    assert lines(root / "meta" / "train.txt") == good
    val = [f"ILSVRC2012_val_{i:08d}.JPEG {label}" for i, label in ((1, 2), (2, 1), (4, 0))]
    assert lines(root / "meta" / "val.txt") == val
    assert report["splits"]["val"]["missing"] == ["ILSVRC2012_val_00000003.JPEG"]
    assert sorted(report["splits"]["train"]["unreadable"]) == [f"{wnid}/{wnid}_bad.JPEG" for wnid in WNIDS[:2]]
    assert "6 of 1281167 listed, 2 unreadable" in text and "n01440764_bad.JPEG: cannot identify" in text
    name = "classification/vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py"
    for split, count, label in (("train", 6, 1), ("val", 3, 2)):
        dataset, sample = build(name, split, data_root=str(root))
        assert len(dataset) == count and sample["inputs"].shape == (3, 224, 224)
        assert sample["data_samples"].gt_label.item() == label
    pretraining, sample = build(
        "pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "train", data_root=str(root)
    )
    assert len(pretraining) == 6 and sample["inputs"].shape == (3, 224, 224)
    before = contents(root)
    assert run("imagenet")[0] == 0
    assert contents(root) == before


def test_imagenet_folders_are_linked(imagenet, tmp_path, run):
    assert run("imagenet", root="first")[0] == 0
    for split in ("train", "val"):
        (tmp_path / "first" / split).rename(imagenet / split)
        (imagenet / f"ILSVRC2012_img_{split}.tar").unlink()
    assert run("imagenet")[0] == 0
    root = tmp_path / "root"
    assert (root / "train").readlink() == imagenet / "train" and (root / "val").is_symlink()
    assert (root / "meta" / "train.txt").read_text() == (tmp_path / "first" / "meta" / "train.txt").read_text()
    assert (root / "meta" / "val.txt").read_text() == (tmp_path / "first" / "meta" / "val.txt").read_text()


def test_imagenet_val_in_class_folders(tmp_path, run):
    """Check that the training folders give the classes if the development kit is missing."""
    for split, wnids in (("train", WNIDS), ("val", WNIDS[1:])):
        for wnid in wnids:
            (tmp_path / "downloads" / split / wnid).mkdir(parents=True)
            (tmp_path / "downloads" / split / wnid / "ü b.JPEG").write_bytes(picture(0))
    status, text, _ = run("imagenet")
    assert status == 0 and "there are 3 classes, not 1000" in text
    assert lines(tmp_path / "root" / "meta" / "val.txt") == [f"{WNIDS[1]}/ü b.JPEG 1", f"{WNIDS[2]}/ü b.JPEG 2"]
    name = "classification/vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py"
    dataset, sample = build(name, "val", data_root=str(tmp_path / "root"))
    assert len(dataset) == 2 and sample["inputs"].shape == (3, 224, 224)


def test_imagenet_in_its_place_keeps_the_users_list(tmp_path, run):
    """Prepare the data inside the source folder. A user's list that must change is kept as a copy."""
    root = tmp_path / "root"
    (root / "val").mkdir(parents=True)
    (root / "meta").mkdir()
    for i in (1, 2):
        (root / "val" / f"{i}.JPEG").write_bytes(picture(i) if i == 1 else b"")
    (root / "meta" / "val.txt").write_text("1.JPEG 7\n2.JPEG 8\n")
    for _ in range(2):
        status, _, report = run("imagenet", sources=("root",))
        assert status == 0 and list(report["splits"]["val"]["unreadable"]) == ["2.JPEG"]
        assert lines(root / "meta" / "val.txt") == ["1.JPEG 7"]
        assert lines(root / "meta" / "val.txt.orig") == ["1.JPEG 7", "2.JPEG 8"]
    (root / "val" / "2.JPEG").write_bytes(picture(2))
    assert run("imagenet", sources=("root",))[0] == 0
    assert lines(root / "meta" / "val.txt") == ["1.JPEG 7", "2.JPEG 8"]


def test_imagenet_names_that_no_list_can_hold(tmp_path, run):
    """Check that such files are left out and reported, and that the report can be written and read."""
    folder = tmp_path / "downloads" / "train" / WNIDS[0]
    folder.mkdir(parents=True)
    odd = (b"\xff.JPEG", b"two\nlines.JPEG")
    for name in (b"a b.JPEG", *odd):
        (folder / os.fsdecode(name)).write_bytes(picture(0))
    for _ in range(2):
        status, text, report = run("imagenet")
        assert status == 0 and "its name is not UTF-8" in text and "two\\nlines.JPEG" in text
        assert lines(tmp_path / "root" / "meta" / "train.txt") == [f"{WNIDS[0]}/a b.JPEG 0"]
        left_out = report["splits"]["train"]["left_out"]
        assert sorted(left_out) == sorted(f"{WNIDS[0]}/{os.fsdecode(name)}" for name in odd)


def test_full_check_finds_what_is_cut_off(imagenet, tmp_path, run):
    assert run("imagenet")[0] == 0
    path = tmp_path / "root" / "val" / "ILSVRC2012_val_00000001.JPEG"
    path.write_bytes(path.read_bytes()[:-800])
    assert run("imagenet")[2]["splits"]["val"]["unreadable"] == {}
    unreadable = run("imagenet", "--check", "full")[2]["splits"]["val"]["unreadable"]
    assert list(unreadable) == [path.name] and "truncated" in unreadable[path.name]
    assert run("imagenet", "--check", "none")[2]["splits"]["val"]["listed"] == 3


def test_interrupted_unpacking_goes_on(imagenet, tmp_path, run):
    partial = tmp_path / "root" / ".train.unfinished"
    (partial / WNIDS[0]).mkdir(parents=True)
    complete, cut = (partial / WNIDS[0] / f"{WNIDS[0]}_{i}.JPEG" for i in (0, 1))
    complete.write_bytes(picture(0))
    cut.write_bytes(picture(1)[:100])
    before = complete.stat().st_mtime_ns
    assert run("imagenet")[0] == 0 and not partial.exists()
    folder = tmp_path / "root" / "train" / WNIDS[0]
    assert (folder / complete.name).stat().st_mtime_ns == before
    assert (folder / cut.name).read_bytes() == picture(1)


def test_imagenet_input_errors(imagenet, tmp_path, run):
    archive = imagenet / "ILSVRC2012_img_train.tar"
    archive.write_bytes(archive.read_bytes()[:-20000])
    status, text, _ = run("imagenet")
    assert status == 1 and f"{archive} is damaged" in text and not (tmp_path / "root" / "train").exists()
    archive.unlink()
    (imagenet / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    status, text, _ = run("imagenet")
    assert status == 1 and "labels of its images are missing. Add ILSVRC2012_devkit_t12.tar.gz" in text
    (imagenet / "val.txt").write_bytes(
        b"\xef\xbb\xbfILSVRC2012_val_00000001.JPEG 65\r\nILSVRC2012_val_00000002.JPEG x\r\n"
    )
    status, text, _ = run("imagenet")
    assert status == 1 and "val.txt, line 2" in text
    status, text, _ = run("imagenet", sources=("elsewhere",))
    assert status == 1 and "elsewhere is not there" in text
    (tmp_path / "empty").mkdir()
    status, text, _ = run("imagenet", sources=("empty",), root="other")
    assert status == 1 and "neither ILSVRC2012_img_train.tar" in text


def test_strict_is_an_exit_status(imagenet, run):
    status, text, report = run("imagenet", "--strict")
    assert status == 1 and "--strict: train: 6 of 1281167 listed" in text and report["splits"]["train"]["listed"] == 6


# Kinetics

HEADER = "label,youtube_id,time_start,time_end,split"


@pytest.fixture
def kinetics(tmp_path):
    """Training videos in class folders, and validation videos in a CVDF archive. The tables have BOM and CRLF."""
    folder = tmp_path / "downloads"
    rows = [("air drumming", "-aaaaaaaaaa", 1, 11), ("zumba", "bbbbbbbbbbü", 20, 30), ("zumba", "ccc", 0, 10)]
    rows += [("yoga", "ddd", 0, 10), ("yoga", "bad", 0, 10)]
    text = "\r\n".join([HEADER, *(f"{label},{name},{a},{b},train" for label, name, a, b in rows)]) + "\r\n"
    for i, (label, name, a, b) in enumerate(rows):
        if name != "ccc":
            clip(folder / "train" / label / f"{name}_{a:06d}_{b:06d}.mp4", seed=i)
    (folder / "train" / "yoga" / "bad_000000_000010.mp4").write_bytes(b"no video")
    clip(folder / "train" / "yoga" / "unnamed_000000_000010.mp4")
    (folder / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (folder / "validate.csv").write_text(f'{HEADER}\n"yoga",eee,3.0,13.0,validate\n')
    (folder / "test.csv").write_text("youtube_id,time_start,time_end,split\nfff,0,10,test\n")
    clip(tmp_path / "eee.mp4", seed=9)
    (folder / "val").mkdir()
    name = "eee_000003_000013.mp4"
    (folder / "val" / "part_0.tar.gz").write_bytes(tar_bytes({name: (tmp_path / "eee.mp4").read_bytes()}, "w:gz"))
    return folder


@pytest.mark.parametrize("version", [400, 600, 700])
def test_kinetics(kinetics, tmp_path, run, version):
    dataset = f"kinetics{version}"
    status, text, report = run("kinetics", "--version", str(version), dataset=dataset)
    assert status == 0, text
    root = tmp_path / "root"
    listed = ["air_drumming/-aaaaaaaaaa_000001_000011.mp4 0", "yoga/ddd_000000_000010.mp4 1"]
    listed += ["zumba/bbbbbbbbbbü_000020_000030.mp4 2"]
    assert lines(root / f"{dataset}_train_list_videos.txt") == listed
    assert lines(root / f"{dataset}_val_list_videos.txt") == ["yoga/eee_000003_000013.mp4 1"]
    train = report["splits"]["train"]
    assert (train["expected"], train["listed"], train["missing"]) == (5, 3, ["ccc_000000_000010"])
    assert list(train["unreadable"]) == [str(kinetics / "train" / "yoga" / "bad_000000_000010.mp4")]
    assert "videos that no .csv file names, not used: 1." in text and f"3 classes, not {version}" in text
    name = f"recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k{version}.py"
    for loader, count in (("train", 3), ("val", 1), ("test", 1)):
        built, sample = build(name, loader, data_root=str(root))
        assert len(built) == count
        first = sample[0] if loader == "train" else sample  # each is augmented twice
        assert (first["inputs"][0] if loader == "train" else first["inputs"]).shape[-3:] == (16, 224, 224)
    before = contents(root)
    assert run("kinetics", "--version", str(version), dataset=dataset)[0] == 0
    assert contents(root) == before


def test_kinetics_pretraining(kinetics, tmp_path, run):
    assert run("kinetics", "--version", "400", dataset="kinetics400")[0] == 0
    name = "pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"
    built, sample = build(name, "train", data_root=str(tmp_path / "root"))
    assert len(built) == 3 and sample["inputs"].shape == (1, 3, 16, 224, 224)


def test_kinetics_moved(kinetics, tmp_path, run):
    options = ("kinetics", "--version", "400", "--move")
    assert run(*options, dataset="kinetics400")[0] == 0
    moved = tmp_path / "root" / "videos_train" / "yoga" / "ddd_000000_000010.mp4"
    assert moved.is_file() and not moved.is_symlink() and not (kinetics / "train" / "yoga" / moved.name).exists()
    before = lines(tmp_path / "root" / "kinetics400_train_list_videos.txt")
    assert run(*options, dataset="kinetics400")[0] == 0
    assert lines(tmp_path / "root" / "kinetics400_train_list_videos.txt") == before and len(before) == 3


def test_kinetics_replacements_come_first(kinetics, tmp_path, run):
    name = "bad_000000_000010.mp4"
    clip(kinetics / "replacement_for_corrupted_k400" / name)
    _, _, report = run("kinetics", "--version", "400", dataset="kinetics400")
    assert report["splits"]["train"]["unreadable"] == {}
    placed = tmp_path / "root" / "videos_train" / "yoga" / name
    assert placed.readlink().parent.name == "replacement_for_corrupted_k400"


def test_kinetics_name_with_a_space(kinetics, tmp_path, run):
    clip(kinetics / "train" / "yoga" / "a b_000000_000010.mp4")
    with open(kinetics / "train.csv", "a", newline="") as file:
        file.write("yoga,a b,0,10,train\r\n")
    _, text, report = run("kinetics", "--version", "400", dataset="kinetics400")
    assert list(report["splits"]["train"]["left_out"]) == ["yoga/a b_000000_000010.mp4"] and "with a space" in text


@pytest.mark.parametrize(
    "table, message",
    [
        (f"{HEADER}\nyoga,x,a,10,train\n", "line 2: 'a' to '10' are no seconds"),
        (f"{HEADER}\nyoga,x,0,10,training\n", "line 2: split='training' is none of train"),
        (f"{HEADER}\nyoga,x\n", "line 2: the row has fewer columns"),
        ("label,youtube_id\nyoga,x\n", "the column time_start is missing"),
        ("something,else\n", "there is no .csv file with the columns label"),
        ("\n".join([HEADER, *(f"class {i},x{i},0,10,train" for i in range(401))]), "have 401 classes"),
    ],
)
def test_kinetics_input_errors(tmp_path, run, table, message):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "train.csv").write_text(table)
    status, text, _ = run("kinetics", "--version", "400", dataset="kinetics400")
    assert status == 1 and message in text


def test_kinetics_table_of_another_encoding(tmp_path, run):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "train.csv").write_text(f"{HEADER}\nyogä,x,0,10,train\n", encoding="latin-1")
    status, text, _ = run("kinetics", "--version", "400", dataset="kinetics400")
    assert status == 1 and "train.csv is not UTF-8" in text


def test_kinetics_without_videos(tmp_path, run):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "train.csv").write_text(f"{HEADER}\nyoga,x,0,10,train\n")
    status, text, report = run("kinetics", "--version", "400", dataset="kinetics400")
    assert status == 1 and "nothing of kinetics400 can be used" in text
    assert report["splits"]["train"]["missing"] == ["x_000000_000010"]


# Something-Something v2


@pytest.fixture
def sthv2(tmp_path):
    """The archive in three parts, and annotations with the current names, whose templates have brackets."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    files = {}
    for i in (1, 2, 3):
        clip(tmp_path / "video.mp4", seed=i)
        files[f"20bn-something-something-v2/{i}.webm"] = (tmp_path / "video.mp4").read_bytes()
    files["20bn-something-something-v2/3.webm"] = b"no video"
    packed = tar_bytes(files, "w:gz")
    third = len(packed) // 3 + 1
    for part in range(3):
        (folder / f"20bn-something-something-v2-0{part}").write_bytes(packed[part * third : (part + 1) * third])
    templates = {"Holding something": "1", "Pushing something with something": "0"}
    (folder / "labels.json").write_text(json.dumps(templates))
    push, hold = "Pushing [something] with [something]", "Holding [something]"
    train = [dict(id="1", template=push), dict(id="3", template=hold), dict(id="4", template=hold)]
    (folder / "train.json").write_text(json.dumps(train), encoding="utf-8-sig")
    (folder / "validation.json").write_text(json.dumps([dict(id="2", label="holding a cup", template=hold)]))
    return folder


def check_sthv2(root, report):
    assert lines(root / "sthv2_train_list_videos.txt") == ["1.webm 0"]
    assert lines(root / "sthv2_val_list_videos.txt") == ["2.webm 1"]
    train = report["splits"]["train"]
    assert (train["expected"], train["missing"], list(train["unreadable"])) == (168_913, ["4"], ["3.webm"])


def test_sthv2_parts(sthv2, tmp_path, run):
    status, text, report = run("sthv2")
    assert status == 0, text
    root = tmp_path / "root"
    check_sthv2(root, report)
    name = "recognition/mvit-small-u16_k400-pre_16xb16-amp-coslr-100e_sthv2.py"
    for loader in ("train", "val", "test"):
        built, sample = build(name, loader, data_root=str(root))
        assert len(built) == 1 and sample["inputs"].shape[-3:] == (16, 224, 224)
    before = contents(root)
    assert run("sthv2")[0] == 0
    assert contents(root) == before


def test_sthv2_folder_and_older_names(sthv2, tmp_path, run):
    assert run("sthv2", root="first")[0] == 0
    for part in sthv2.glob("20bn*"):
        part.unlink()
    (tmp_path / "first" / "videos").rename(sthv2 / "20bn-something-something-v2")
    archive = sthv2 / "20bn-something-something-download-package-labels.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(sthv2 / "labels.json", "labels/labels.json")
    (sthv2 / "labels.json").unlink()
    for name in ("train.json", "validation.json"):
        (sthv2 / name).rename(sthv2 / f"something-something-v2-{name}")
    _, _, report = run("sthv2")
    check_sthv2(tmp_path / "root", report)
    assert (tmp_path / "root" / "videos").readlink() == sthv2 / "20bn-something-something-v2"


def test_sthv2_input_errors(sthv2, run):
    (sthv2 / "20bn-something-something-v2-01").rename(sthv2 / "part")
    status, text, _ = run("sthv2")
    assert status == 1 and "Add the part with number 1." in text
    (sthv2 / "part").rename(sthv2 / "20bn-something-something-v2-01")
    (sthv2 / "validation.json").write_text(json.dumps([dict(id="2", template="Eating [something]")]))
    status, text, _ = run("sthv2")
    assert status == 1 and "validation.json, video 0: 'Eating something' is none of the labels" in text
    (sthv2 / "validation.json").write_text("{")
    assert "validation.json is no JSON" in run("sthv2")[1]
    (sthv2 / "validation.json").unlink()
    assert "there is no validation.json or something-something-v2-validation.json" in run("sthv2")[1]


# COCO 2017


def instances(images):
    """Return annotations in COCO's format with one object per image."""
    from mmdet.datasets import CocoDataset

    objects = [
        dict(id=i + 1, image_id=i, category_id=1, bbox=[4, 4, 30, 20], area=600, iscrowd=0)
        | dict(segmentation=[[4, 4, 34, 4, 34, 24, 4, 24]])
        for i in range(len(images))
    ]
    return json.dumps(
        dict(
            images=[dict(id=i, file_name=name, width=64, height=48) for i, name in enumerate(images)],
            annotations=objects,
            categories=[dict(id=i + 1, name=name) for i, name in enumerate(CocoDataset.METAINFO["classes"])],
        )
    )


@pytest.fixture
def coco(tmp_path):
    """The three archives. One training image is missing, and one is not an image."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    with zipfile.ZipFile(folder / "train2017.zip", "w") as file:
        for i in (0, 1):
            file.writestr(f"train2017/{i:012d}.jpg", picture(i))
        file.writestr(f"train2017/{2:012d}.jpg", b"no image")
    with zipfile.ZipFile(folder / "val2017.zip", "w") as file:
        file.writestr(f"val2017/{0:012d}.jpg", picture(5))
    with zipfile.ZipFile(folder / "annotations_trainval2017.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("annotations/captions_train2017.json", "{}")
        file.writestr("annotations/instances_train2017.json", instances([f"{i:012d}.jpg" for i in range(4)]))
        file.writestr("annotations/instances_val2017.json", instances([f"{0:012d}.jpg"]))
    return folder


def check_coco(root):
    name = "detection/mask-rcnn_vit-base-p16-sfp_maskfeat-pre_8xb8-amp-lsj-100e_coco.py"
    for loader, count in (("train", 2), ("val", 1)):
        built, sample = build(name, loader, data_root=f"{root}/")
        assert len(built) == count and len(sample["data_samples"].gt_instances) <= 1
        assert max(sample["inputs"].shape) == 1024


def test_coco_archives(coco, tmp_path, run):
    status, text, report = run("coco")
    assert status == 0, text
    root = tmp_path / "root"
    train = report["splits"]["train"]
    assert (train["expected"], train["listed"], train["missing"]) == (118_287, 2, ["000000000003.jpg"])
    assert list(train["unreadable"]) == ["000000000002.jpg"]
    kept = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    assert [image["id"] for image in kept["images"]] == [note["image_id"] for note in kept["annotations"]] == [0, 1]
    check_coco(root)
    before = contents(root)
    assert run("coco")[0] == 0
    assert contents(root) == before


@pytest.mark.parametrize("move", [False, True])
def test_coco_folders(coco, tmp_path, run, move):
    for archive in coco.glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(coco)
        archive.unlink()
    options = ["coco"] + (["--move"] if move else [])
    root = tmp_path / "root"
    for _ in range(2):
        assert run(*options)[0] == 0
        check_coco(root)
        assert (root / "val2017").is_symlink() != move
        assert (root / "annotations" / "instances_val2017.json").is_symlink() != move
    # annotations that lost images are new files; the official files are unchanged
    official = json.loads((coco / "annotations" / "instances_train2017.json").read_text())
    assert len(official["images"]) == 4


def test_coco_input_errors(coco, run):
    (coco / "annotations_trainval2017.zip").write_bytes(b"no archive")
    status, text, _ = run("coco")
    assert status == 1 and "annotations_trainval2017.zip is damaged or no archive" in text
    (coco / "annotations_trainval2017.zip").unlink()
    assert "neither instances_train2017.json nor annotations_trainval2017.zip is there" in run("coco")[1]
    (coco / "instances_train2017.json").write_text("[]")
    assert "instances_train2017.json is not COCO's" in run("coco")[1]


# AVA v2.2

RATE = 6  # frames per second of the video: each gives five frames of the data set


def numbered(path, seconds):
    """Write a video whose frames show their numbers as black and white squares."""
    numbers = np.arange(seconds * RATE)
    bits = (numbers[:, None] >> np.arange(16)) & 1  # (T, 16)
    frames = np.kron(bits.reshape(-1, 4, 4), np.ones((16, 16))).astype(np.uint8) * 255
    write_video(path, np.repeat(frames[..., None], 3, axis=-1), RATE)


def read_number(frame):
    """Read the number that a frame of any size shows."""
    frame = cv2.resize(frame, (64, 64)).mean(-1)
    return sum(1 << bit for bit in range(16) if frame[bit // 4 * 16 + 8, bit % 4 * 16 + 8] > 128)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Video of 15 minutes and 5 seconds."""
    path = tmp_path_factory.mktemp("ava") / "long.mp4"
    numbered(path, 905)
    return path


@pytest.fixture
def ava(tmp_path, long_video):
    """Two videos that are long enough, one that is too short, and one that is missing."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in ("-5KQ66BBWC4.mkv", "ü7mOxNCVtvE.mp4"):
        (folder / name).symlink_to(long_video)
    clip(folder / "short.mp4")
    box = "0.100,0.200,0.500,0.900"
    train = f"-5KQ66BBWC4,0902,{box},12,0\r\n-5KQ66BBWC4,0903,{box},80,0\r\n\r\nshort,0902,{box},1,0\r\n"
    base = "research/ava/"
    with zipfile.ZipFile(folder / "ava_v2.2.zip", "w") as file:
        file.writestr(f"{base}ava_train_v2.2.csv", b"\xef\xbb\xbf" + f"{train}gone,0902,{box},1,0\r\n".encode())
        file.writestr(f"{base}ava_val_v2.2.csv", f"ü7mOxNCVtvE,0902,{box},1,3\n")
        file.writestr(f"{base}ava_train_excluded_timestamps_v2.2.csv", "-5KQ66BBWC4,0903\r\n\r\n")
        file.writestr(f"{base}ava_val_excluded_timestamps_v2.2.csv", "")
        actions = "".join(f'label {{\n  name: "action {i}"\n  label_id: {i}\n}}\n' for i in (1, 12, 80))
        file.writestr(f"{base}ava_action_list_v2.2_for_activitynet_2019.pbtxt", actions)
    for split, name in (("train", "-5KQ66BBWC4"), ("val", "ü7mOxNCVtvE")):
        with open(folder / f"ava_dense_proposals_{split}.FAIR.recall_93.9.pkl", "wb") as file:
            pickle.dump({f"{name},0902": np.array([[0.1, 0.2, 0.5, 0.9, 0.97]])}, file)
    return folder


def build_ava(root, loader, **changes):
    """Build the config's AVA data set on the prepared data."""
    name = "action_detection/mvit-small-16x4_k400-pre_8xb16-amp-coslr-30e_ava22.py"
    dataset = Config.fromfile(ROOT / "configs" / name)[f"{loader}_dataloader"].dataset
    keys = ("ann_file", "exclude_file", "label_file", "proposal_file")
    moved = {key: dataset[key].replace("data/ava", str(root)) for key in keys}
    prefix = dict(img=dataset.data_prefix.img.replace("data/ava", str(root)))
    return build(name, loader, data_prefix=prefix, **moved, **changes)


def test_ava(ava, tmp_path, run):
    status, text, report = run("ava")
    assert status == 0, text
    root = tmp_path / "root"
    train = report["splits"]["train"]
    assert (train["expected"], train["listed"], train["missing"]) == (235, 1, ["gone"])
    assert "ends at 2.0 s, before its last annotated second 902" in train["unreadable"]["short"]
    assert not list((root / "rawframes").glob("*short*"))
    assert lines(root / "annotations" / "ava_train_v2.2.csv") == [
        "-5KQ66BBWC4,0902,0.100,0.200,0.500,0.900,12,0",
        "-5KQ66BBWC4,0903,0.100,0.200,0.500,0.900,80,0",
    ]
    assert lines(root / "annotations" / "ava_train_excluded_timestamps_v2.2.csv") == ["-5KQ66BBWC4,0903"]
    assert "-5KQ66BBWC4 ends early: its last frame stands for 30 more" in text  # 903 + 3 s are needed, 905 s are there
    for loader in ("train", "val"):
        built, sample = build_ava(root, loader)
        assert len(built) == 1 and sample["inputs"].shape[:2] == (3, 16)
        assert len(sample["data_samples"].proposals.bboxes) >= 1
    # the middle frame of a test clip is the frame of the video at the annotated second
    decode = [
        dict(type="maskfeat.SampleAVAFrames", clip_len=16, frame_interval=4, test_mode=True),
        dict(type="RawFrameDecode"),
    ]
    _, sample = build_ava(root, "val", pipeline=decode)
    numbers = [read_number(frame) for frame in sample["imgs"]]
    assert numbers[8] == 902 * RATE and sample["frame_inds"][8] == 2 * 30 + 1
    assert numbers == [902 * RATE + (4 * i) // 5 for i in range(-8, 8)]
    before = contents(root)
    assert run("ava")[0] == 0
    assert contents(root) == before


def test_ava_goes_on_after_an_interruption(ava, tmp_path, run):
    assert run("ava", "--short-side", "32")[0] == 0
    frames = tmp_path / "root" / "rawframes"
    done, other = frames / "-5KQ66BBWC4", frames / "ü7mOxNCVtvE"
    assert cv2.imread(str(done / "img_00001.jpg")).shape == (32, 32, 3)
    before = (done / "img_00001.jpg").stat().st_mtime_ns
    expected = sorted(path.name for path in other.iterdir())
    for path in list(other.iterdir())[:40]:
        path.unlink()
    (frames / ".ü7mOxNCVtvE.unfinished").mkdir()
    assert run("ava", "--short-side", "32")[0] == 0
    assert (done / "img_00001.jpg").stat().st_mtime_ns == before
    assert sorted(path.name for path in other.iterdir()) == expected and not list(frames.glob(".*"))
    (other / "img_00001.jpg").write_bytes(b"no image")
    assert run("ava", "--short-side", "32")[0] == 0
    assert cv2.imread(str(other / "img_00001.jpg")).shape == (32, 32, 3)
    status, text, _ = run("ava")
    assert status == 1 and "was made with 32; remove it and" in text


def test_ava_without_proposals(ava, tmp_path, run):
    for path in ava.glob("*.pkl"):
        path.unlink()
    status, text, _ = run("ava", "--short-side", "32")
    assert status == 0 and "set train_dataloader.dataset.proposal_file=ground_truth" in text
    built, _ = build(
        "action_detection/mvit-small-16x4_k400-pre_8xb16-amp-coslr-30e_ava22.py",
        "val",
        ann_file=str(tmp_path / "root" / "annotations" / "ava_val_v2.2.csv"),
        exclude_file=None,
        data_prefix=dict(img=str(tmp_path / "root" / "rawframes")),
        proposal_file="ground_truth",
    )
    assert len(built) == 1


def test_ava_proposals_are_not_opened(ava, tmp_path, run):
    """Check that the pickle is not loaded. It runs code that would create a file."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    (ava / "ava_dense_proposals_val.FAIR.recall_93.9.pkl").write_bytes(pickle.dumps(Trap()))
    assert run("ava", "--short-side", "32")[0] == 0
    assert not (tmp_path / "opened").exists()


def test_ava_input_errors(ava, run):
    (ava / "ava_val_v2.2.csv").write_text("short,0902,10,20,50,90,1,3\n")
    status, text, _ = run("ava")
    assert status == 1 and "ava_val_v2.2.csv, line 1: the box" in text
    (ava / "ava_val_v2.2.csv").write_text("short,0002,0.1,0.2,0.5,0.9,1,3\n")
    assert "has no timestamp from 900 to 1799" in run("ava")[1]
    (ava / "ava_val_v2.2.csv").unlink()
    (ava / "ava_v2.2.zip").unlink()
    assert "neither ava_train_v2.2.csv nor ava_v2.2.zip is there" in run("ava")[1]


# all of them


@pytest.mark.parametrize("name", TOOLS)
def test_dry_run_writes_nothing(name, request, tmp_path, run):
    request.getfixturevalue(name)
    before = contents(tmp_path / "downloads")
    options = ("--version", "400") if name == "kinetics" else ()
    status, text, _ = run(name, *options, "--dry-run")
    assert status == 0 and "would " in text and "dry run, nothing was written" in text
    assert not (tmp_path / "root").exists() and contents(tmp_path / "downloads") == before


@pytest.mark.parametrize("name", TOOLS)
def test_help_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        load_tool(f"data/{name}").main(["--help"])
    assert stopped.value.code == 0
    assert f"python tools/data/{name}.py downloads/" in capsys.readouterr().out


def page_commands():
    """Return the commands of the page. Continued lines are joined."""
    text = PAGE.replace("\\\n", " ")
    return [
        match[1].split(" # ")[0] for match in re.finditer(r"^ *python tools/data/(\w+\.py .+)$", text, re.MULTILINE)
    ]


def test_every_data_set_has_its_command_on_the_page():
    assert {command.split(".")[0] for command in page_commands()} >= set(TOOLS)


@pytest.mark.parametrize("command", page_commands())
def test_commands_of_the_page_parse(command):
    name, *arguments = shlex.split(command)
    args = load_tool(f"data/{name.removesuffix('.py')}").parse_args(arguments)
    assert str(args.root).startswith("data/")


def test_data_sets_of_mim_on_the_page():
    """Check that the page names exactly the data sets that the installed packages list."""
    import yaml

    named = re.findall(r"mim download (\w+) --dataset (\w+)", PAGE)
    assert len(named) == 6
    for package, dataset in named:
        module = {"mmaction2": "mmaction"}.get(package, package)
        folder = Path(importlib.util.find_spec(module).origin).parent / ".mim"
        assert dataset in yaml.safe_load((folder / "dataset-index.yml").read_text())
