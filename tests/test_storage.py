"""Tests of object storage with a real S3 server on this machine: images, clips, lists, checkpoints and faults."""

import shutil
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from moto.server import ThreadedMotoServer
from object_store import Proxy
from torch.utils.data import DataLoader

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.apis import build_trainer, load_config
from maskfeat_plugin.checkpoints import CheckpointError
from maskfeat_plugin.datasets import SkipBadFiles
from maskfeat_plugin.registry import DATASETS, MODELS, TRANSFORMS
from maskfeat_plugin.running.training import train
from maskfeat_plugin.storage import FsspecBackend, StorageError

CONFIG = Path(__file__).parents[1] / "configs/demo/maskfeat_vit-tiny_moving-digits.py"
OPENING = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="mmaction.SampleFrames", clip_len=4, frame_interval=4, num_clips=1, test_mode=True),
    dict(type="maskfeat.DecodeClip"),
]


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(scope="module")
def proxy(server):
    """Return the proxy before the server, which all programs of this module use as their S3."""
    proxy = Proxy(*server)
    with pytest.MonkeyPatch.context() as patch:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
        for name, value in zip(names, ("key", "secret", "us-east-1", proxy.url), strict=True):
            patch.setenv(name, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="bucket")
        yield proxy
    proxy.close()


@pytest.fixture
def store(proxy, monkeypatch):
    monkeypatch.setattr("maskfeat_plugin.storage._FIRST_WAIT", 0.01)
    proxy.faults.clear()
    yield proxy
    proxy.faults.clear()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Return a video of 10 MB: noise, which cannot be compressed."""
    path = tmp_path_factory.mktemp("videos") / "noise.mp4"
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30, options=dict(g="15", preset="ultrafast", crf="12"))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(300):
            frame = av.VideoFrame.from_ndarray(random.integers(0, 255, (240, 320, 3), np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert path.stat().st_size > 8_000_000
    return path


def upload(path, address):
    return fileio.copyfile_from_local(path, address) or address


def test_files_and_folders(store, tmp_path):
    addresses = ("a.txt", "folder/b.bin", "folder/deep/c.txt")
    for name in addresses:
        fileio.put_text(name, f"s3://bucket/tree/{name}")
        fileio.put_text(name, tmp_path / name)
    for settings in (dict(recursive=True), dict(list_dir=False), dict(recursive=True, list_dir=False, suffix=".txt")):
        expected = sorted(fileio.list_dir_or_file(tmp_path, **settings))
        assert sorted(fileio.list_dir_or_file("s3://bucket/tree", **settings)) == expected
    assert fileio.get_text("s3://bucket/tree/a.txt") == "a.txt"
    assert fileio.isdir("s3://bucket/tree/folder") and fileio.isfile("s3://bucket/tree/folder/b.bin")
    assert fileio.join_path("s3://bucket/tree/", "folder", "b.bin") == "s3://bucket/tree/folder/b.bin"
    with fileio.get_local_path("s3://bucket/tree/a.txt") as path:
        assert Path(path).read_text() == "a.txt"
    fileio.remove("s3://bucket/tree/a.txt")
    assert not fileio.exists("s3://bucket/tree/a.txt") and fileio.exists("s3://bucket/tree")
    fileio.rmtree("s3://bucket/tree/folder")
    assert not fileio.exists("s3://bucket/tree")


def test_an_image(store, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    address = upload(tmp_path / "a.png", "s3://bucket/images/a.png")
    load = TRANSFORMS.build(dict(type="maskfeat.LoadWholeImage"))
    np.testing.assert_array_equal(load(dict(img_path=address))["img"], image)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_clip_fetches_a_part_of_its_file(store, video, tmp_path, ending):
    if ending != video.suffix:
        other = tmp_path / f"noise{ending}"
        with av.open(str(video)) as source, av.open(str(other), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        video = other
    address = upload(video, f"s3://bucket/videos/noise{ending}")
    before = store.sent
    opener, _, decoder = (TRANSFORMS.build(step) for step in OPENING)
    clips = []
    for name in (str(video), address):
        results = opener(dict(filename=name))
        results["frame_inds"] = np.array([200, 204, 208])
        clips.append(decoder(results)["imgs"])
    np.testing.assert_array_equal(*clips)
    assert 100_000 < store.sent - before < 0.6 * video.stat().st_size


@pytest.fixture
def videos(store, video, tmp_path):
    """Return a function that builds a data set of three videos in the storage. One of them may be missing."""

    def build(names=("a.mp4", "b.mp4", "c.mp4"), **settings):
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            upload(video, f"s3://bucket/clips/{name}")
        fileio.put_text("".join(f"{name}\n" for name in names), "s3://bucket/clips.txt")
        return DATASETS.build(
            dict(
                type="maskfeat.SkipBadFiles",
                dataset_type="maskfeat.VideoDataset",
                list_file=str(tmp_path / "bad.txt"),
                ann_file="s3://bucket/clips.txt",
                data_prefix=dict(video="s3://bucket/clips"),
                pipeline=OPENING,
                _scope_="mmaction",
                **settings,
            )
        )

    return build


def test_a_data_set_in_workers(videos):
    data = videos()
    first = data[0]["imgs"]  # the storage is used before the workers are forked
    batches = list(DataLoader(data, num_workers=2, batch_size=None, collate_fn=lambda sample: sample["imgs"]))
    assert len(batches) == 3
    for frames in batches:
        np.testing.assert_array_equal(frames, first)


def test_a_missing_object_is_a_bad_file_and_a_failing_storage_is_not(videos, store, tmp_path):
    data: SkipBadFiles = videos(("a.mp4", "missing.mp4", "c.mp4"), limit=0.5)
    assert len(data[1]["imgs"]) == 4
    assert "missing.mp4" in (tmp_path / "bad.txt").read_text()
    listed = (tmp_path / "bad.txt").read_text()
    store.faults += ["403 AccessDenied"] * 50
    with pytest.raises(StorageError, match=r"s3://bucket/clips/a.mp4: the storage refuses the access"):
        data[0]
    loader = DataLoader(data, num_workers=1, batch_size=None, collate_fn=lambda sample: sample["imgs"])
    with pytest.raises(StorageError) as error:
        list(loader)
    assert str(error.value).startswith("s3://bucket/clips/") and "\n" not in str(error.value)
    assert (tmp_path / "bad.txt").read_text() == listed


@pytest.mark.parametrize("fault", [300, "503 SlowDown"])
def test_a_fault_that_passes(store, fault):
    content = bytes(range(256)) * 4000
    fileio.put(content, "s3://bucket/content.bin")
    store.faults += [fault, fault]
    assert FsspecBackend(skip_instance_cache=True).get("s3://bucket/content.bin") == content
    assert not store.faults


@pytest.mark.parametrize("fault", [300, "503 SlowDown"])
def test_a_fault_that_stays(store, fault):
    fileio.put(b"content" * 1000, "s3://bucket/content.bin")
    store.faults += [fault] * 1000
    quick = dict(config_kwargs=dict(retries=dict(max_attempts=0)), skip_instance_cache=True)
    with pytest.raises(StorageError, match=r"^s3://bucket/content\.bin: the storage fails \(.+\)\. Check the address"):
        FsspecBackend(retries=1, **quick).get("s3://bucket/content.bin")
    assert len(store.faults) <= 1000 - 2


def test_what_is_refused_at_once(store):
    with pytest.raises(StorageError, match=r"s3://other-bucket/a: the bucket other-bucket does not exist"):
        fileio.get("s3://other-bucket/a")
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/none does not exist"):
        fileio.get("s3://bucket/none")
    store.faults += ["403 InvalidAccessKeyId"] * 1000
    with pytest.raises(StorageError, match=r"s3://bucket/a: the storage refuses the access .*the credentials"):
        FsspecBackend(skip_instance_cache=True).get("s3://bucket/a")
    assert len(store.faults) >= 998


def test_an_upload_that_is_cut_leaves_the_old_object(store):
    fileio.put(b"old", "s3://bucket/state.bin")
    quick = dict(config_kwargs=dict(retries=dict(max_attempts=0)), skip_instance_cache=True)
    store.faults += ["upload"] * 1000
    with pytest.raises(StorageError, match=r"s3://bucket/state\.bin"):
        FsspecBackend(retries=0, **quick).put(b"new" * 100_000, "s3://bucket/state.bin")
    store.faults.clear()
    assert FsspecBackend(skip_instance_cache=True).get("s3://bucket/state.bin") == b"old"


def test_without_the_packages(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(StorageError, match=r"s3://bucket/a: .*pip install 'maskfeat_plugin\[remote\]'"):
        fileio.get("s3://bucket/a")


def test_checkpoints_in_the_storage(store, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def trained(folder, steps, **options):
        cfg = load_config(str(CONFIG), str(tmp_path / folder))
        cfg.train_cfg.max_iters = steps
        cfg.train_dataloader.update(batch_size=8)
        cfg.param_scheduler = [dict(type="ConstantLR", factor=1.0, by_epoch=False)]
        cfg.default_hooks.checkpoint.update(
            interval=2, max_keep_ckpts=1, save_optimizer=True, out_dir=f"s3://bucket/{folder}"
        )
        cfg.update(options)
        cfg.experiment_name = f"{folder}-{steps}"
        train(build_trainer(cfg))
        return f"s3://bucket/{folder}/{folder}/iter_{steps}.pth"

    whole = trained("whole", 4)
    trained("stopped", 2)
    resumed = trained("stopped", 4, resume=True)
    states = []
    for address in (whole, resumed):
        with fileio.get_local_path(address) as path:
            states.append(torch.load(path, weights_only=False)["state_dict"])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
    assert list(fileio.list_dir_or_file("s3://bucket/stopped/stopped")) == ["iter_4.pth"]
    backbone = dict(Config.fromfile(CONFIG).model.backbone, type="maskfeat.VisionTransformer")
    model = MODELS.build(dict(backbone, init_cfg=dict(type="Pretrained", checkpoint=resumed, prefix="backbone.")))
    model.init_weights()
    assert torch.equal(model.layers[0].ln1.weight, states[1]["backbone.layers.0.ln1.weight"])
    assert load_checkpoint(model, resumed)["meta"]["iter"] == 4


def test_a_damaged_checkpoint_is_named_by_its_address(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    fileio.put(b"no checkpoint", "s3://bucket/damaged.pth")
    model = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match=r"s3://bucket/damaged\.pth"):
        load_checkpoint(model, "s3://bucket/damaged.pth")
    assert not list(tmp_path.rglob("*damaged*"))
    shutil.rmtree(tmp_path)
