"""Tests of object storage with a real S3 server on this machine: images, clips, lists, checkpoints and faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import fsspec.config
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
from maskfeat_plugin.datasets.manifest import VIDEO, as_table, write_manifest
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import DATASETS, MODELS, TRANSFORMS
from maskfeat_plugin.running.training import train
from maskfeat_plugin.storage import FsspecBackend, StorageError

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/demo/maskfeat_vit-tiny_moving-digits.py"
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


@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    """Return a video of an hour and 60 MB, in which the packets of a minute are repeated."""
    folder = tmp_path_factory.mktemp("hour")
    random = np.random.default_rng(0)
    with av.open(str(folder / "minute.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=5, options=dict(g="10", bf="0", preset="ultrafast", crf="18"))
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for _ in range(300):
            frame = av.VideoFrame.from_ndarray(random.integers(0, 255, (96, 96, 3), np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    path = folder / "hour.mp4"
    with av.open(str(path), "w") as file:
        stream = None
        for minute in range(60):
            with av.open(str(folder / "minute.mp4")) as source:
                video = source.streams.video[0]
                stream = stream or file.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is not None:
                        offset = round(60 * minute / video.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                        file.mux(packet)
    with av.open(str(path)) as file:
        assert file.duration / av.time_base == pytest.approx(3600, abs=1)
    assert path.stat().st_size > 40_000_000
    return path


def test_a_clip_of_an_hour_fetches_a_few_blocks(store, hour):
    address = upload(hour, "s3://bucket/videos/hour.mp4")
    before = store.sent
    opener, _, decoder = (TRANSFORMS.build(step) for step in OPENING)
    clips = []
    for name in (str(hour), address):
        results = opener(dict(filename=name))
        assert results["total_frames"] == 18_000
        results["frame_inds"] = np.arange(9_000, 9_064, 4)
        clips.append(decoder(results)["imgs"])
    np.testing.assert_array_equal(*clips)
    assert 100_000 < store.sent - before < 0.1 * hour.stat().st_size


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


def test_a_server_that_never_answers(store, monkeypatch):
    monkeypatch.setattr("maskfeat_plugin.storage._LONGEST", 0)
    store.faults += ["silent"] * 100
    quick = FsspecBackend(config_kwargs=dict(read_timeout=0.1, connect_timeout=1), skip_instance_cache=True)
    with pytest.raises(StorageError, match=r"^s3://bucket/content\.bin: the storage fails \(.*timeout"):
        quick.get("s3://bucket/content.bin")
    assert len(store.faults) == 95  # s3fs tries five times, and nothing else multiplies that


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


def test_options_of_the_environment_reach_all_files(store, video, tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        upload(video, f"s3://bucket/options/{name}")
    fileio.put_text("a.mp4\nb.mp4\n", "s3://bucket/options.txt")
    torch.save(dict(state_dict=dict(weight=torch.ones(1, 1), bias=torch.ones(1))), tmp_path / "weights.pth")
    upload(tmp_path / "weights.pth", "s3://bucket/options/weights.pth")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    credentials = tmp_path / "credentials"
    credentials.write_text("[team]\naws_access_key_id = key\naws_secret_access_key = secret\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    options = dict(endpoint_url=store.url, profile="team", config_kwargs=dict(read_timeout=30))
    monkeypatch.setenv("FSSPEC_S3", json.dumps(options))
    monkeypatch.setattr(fsspec.config, "conf", conf := {})
    fsspec.config.set_conf_env(conf)  # as in a new process
    settings = dict(pipeline=OPENING, data_prefix=dict(video="s3://bucket/options"), _scope_="mmaction")
    data = DATASETS.build(dict(type="maskfeat.VideoDataset", ann_file="s3://bucket/options.txt", **settings))
    assert len(data) == 2 and len(data[1]["imgs"]) == 4
    model = torch.nn.Linear(1, 1)
    load_checkpoint(model, "s3://bucket/options/weights.pth")
    assert model.weight.item() == 1
    conf.clear()
    with pytest.raises(StorageError, match=r"s3://bucket/options.txt"):
        FsspecBackend(skip_instance_cache=True, retries=0).get("s3://bucket/options.txt")


def test_a_manifest(store, video, tmp_path):
    names = ("a.mp4", "sub/b.mp4")
    for name in names:
        upload(video, f"s3://bucket/archive/{name}")
    rows = [dict(path=name, kind=VIDEO, duration=10.0, bytes=1) for name in names]
    write_manifest(tmp_path / "archive.parquet", "/elsewhere", [as_table(rows)])
    address = upload(tmp_path / "archive.parquet", "s3://bucket/lists/archive.parquet")
    settings = dict(type="maskfeat.VideoDataset", data_prefix=dict(video="s3://bucket/archive"), pipeline=OPENING)
    data = DATASETS.build(dict(ann_file=address, _scope_="mmaction", **settings))
    assert [data.get_data_info(i)["duration"] for i in range(2)] == [10.0, 10.0]
    assert len(data[1]["imgs"]) == 4
    with pytest.raises(ConfigError, match=r"the manifest s3://bucket/lists/none\.parquet does not exist"):
        DATASETS.build(dict(ann_file="s3://bucket/lists/none.parquet", _scope_="mmaction", **settings))
    fileio.put(b"no parquet", "s3://bucket/lists/bad.parquet")
    with pytest.raises(ConfigError, match=r"s3://bucket/lists/bad\.parquet is no manifest"):
        DATASETS.build(dict(ann_file="s3://bucket/lists/bad.parquet", _scope_="mmaction", **settings))


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


PADDING = """
import torch
from mmengine.hooks import Hook

from maskfeat_plugin.registry import HOOKS


@HOOKS.register_module()
class PaddingTestHook(Hook):
    def before_save_checkpoint(self, runner, checkpoint):
        if runner.iter > 2:
            checkpoint["padding"] = torch.zeros(27_000_000)
"""


@pytest.mark.long
def test_a_process_killed_in_an_upload(store, digits, tmp_path, monkeypatch):
    import boto3

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "padding_hook.py").write_text(PADDING)
    config = tmp_path / "config.py"
    settings = "interval=2, max_keep_ckpts=1, save_optimizer=True, out_dir='s3://bucket/killed'"
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "custom_imports = dict(imports=['maskfeat_plugin', 'padding_hook'], allow_failed_imports=False)\n"
        "custom_hooks = [dict(type='maskfeat.PaddingTestHook')]\n"
        "param_scheduler = None\n"
        "train_dataloader = dict(batch_size=8)\n"
        "train_cfg = dict(max_iters=4)\n"
        f"default_hooks = dict(checkpoint=dict({settings}), logger=dict(interval=1))\n"
    )
    command = [sys.executable, ROOT / "tools/train.py", config, "--work-dir", tmp_path / "work"]
    env = dict(os.environ, PYTHONPATH=f"{ROOT}:{tmp_path}", CUDA_VISIBLE_DEVICES="")
    store.hold_after = store.received + 60_000_000
    with open(tmp_path / "log", "w") as log:
        training = subprocess.Popen(command, cwd=digits, env=env, stdout=log, stderr=log)
        while not store.is_holding():
            assert training.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        training.send_signal(signal.SIGKILL)
        training.wait()
    store.hold_after = None
    client = boto3.client("s3")
    (left,) = client.list_multipart_uploads(Bucket="bucket")["Uploads"]
    assert left["Key"] == "killed/work/iter_4.pth"
    assert list(fileio.list_dir_or_file("s3://bucket/killed/work")) == ["iter_2.pth"]
    assert (tmp_path / "work/last_checkpoint").read_text() == "s3://bucket/killed/work/iter_2.pth"

    done = subprocess.run([*command, "--resume"], cwd=digits, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "s3://bucket/killed/work/iter_4.pth: the parts of an unfinished upload are removed." in done.stdout
    assert "Iter(train) [3/4]" in done.stdout and "Iter(train) [2/4]" not in done.stdout
    assert "Uploads" not in client.list_multipart_uploads(Bucket="bucket")
    assert list(FsspecBackend(skip_instance_cache=True).list_dir_or_file("s3://bucket/killed/work")) == ["iter_4.pth"]
    with fileio.get_local_path("s3://bucket/killed/work/iter_4.pth") as path:
        assert torch.load(path, weights_only=False)["meta"]["iter"] == 4


def test_a_damaged_checkpoint_is_named_by_its_address(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    fileio.put(b"no checkpoint", "s3://bucket/damaged.pth")
    model = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match=r"s3://bucket/damaged\.pth"):
        load_checkpoint(model, "s3://bucket/damaged.pth")
    assert not list(tmp_path.rglob("*damaged*"))
    shutil.rmtree(tmp_path)
