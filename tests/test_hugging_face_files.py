"""Tests of addresses that begin with hf://, with a server on this machine that imitates the Hugging Face Hub."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import av
import cv2
import fsspec.config
import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.runner import load_checkpoint

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import DATASETS, TRANSFORMS
from maskfeat_plugin.storage import FsspecBackend, StorageError

REPOSITORY = "hf://datasets/team/clips"


class Hub(BaseHTTPRequestHandler):
    """Requests for the repository, its tree and (parts of) its files, as huggingface_hub sends them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self.path)
        path = unquote(urlparse(self.path).path)
        files = self.server.files
        if self.server.faults:
            self.answer(self.server.faults.pop(0), b"{}")
        elif re.fullmatch(r"/api/datasets/team/clips(/revision/main)?", path):
            self.answer(200, json.dumps(dict(id="team/clips", sha="0" * 40)).encode())
        elif found := re.fullmatch(r"/api/datasets/team/clips/tree/main/?(.*)", path):
            names = [name for name in files if name.rpartition("/")[0] == found[1]]
            folders = {name.partition("/")[0] for name in files if "/" in name} if not found[1] else ()
            tree = [dict(type="directory", path=name, oid="1") for name in folders]
            tree += [dict(type="file", path=name, size=len(files[name]), oid="2") for name in names]
            self.answer(200, json.dumps(tree).encode())
        elif (found := re.fullmatch(r"/datasets/team/clips/resolve/main/(.+)", path)) and found[1] in files:
            content = files[found[1]]
            if part := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                start, stop = int(part[1]), min(int(part[2]) + 1, len(content))
                self.answer(206, content[start:stop], f"bytes {start}-{stop - 1}/{len(content)}")
            else:
                self.answer(200, content)
        else:
            self.answer(404, b"{}", error="RepoNotFound" if "/api/" in path else "EntryNotFound")

    do_HEAD = do_GET

    def answer(self, status, body, content_range=None, error=None):
        self.send_response(status)
        for name, value in (("Content-Range", content_range), ("X-Error-Code", error), ("Content-Length", len(body))):
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.server.sent += len(body)
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.faults, server.requests, server.sent = {}, [], [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("maskfeat_plugin.storage._FIRST_WAIT", 0.01)
    monkeypatch.setenv("FSSPEC_HF", json.dumps(dict(endpoint=f"http://127.0.0.1:{server.server_port}", token=False)))
    monkeypatch.setattr(fsspec.config, "conf", conf := {})
    fsspec.config.set_conf_env(conf)  # as in a new process
    yield server
    server.shutdown()
    server.server_close()
    from huggingface_hub import HfFileSystem

    HfFileSystem.clear_instance_cache()


def test_lists_images_clips_and_weights(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=30, options=dict(g="15", preset="ultrafast", crf="12"))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(240):
            frame = av.VideoFrame.from_ndarray(random.integers(0, 255, (240, 320, 3), np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    torch.save(dict(state_dict=dict(weight=torch.ones(1, 1), bias=torch.ones(1))), tmp_path / "weights.pth")
    hub.files["videos/a.mp4"] = (tmp_path / "a.mp4").read_bytes()
    hub.files["clips.txt"] = b"a.mp4\n"
    hub.files["image.png"] = cv2.imencode(".png", image)[1].tobytes()
    hub.files["weights.pth"] = (tmp_path / "weights.pth").read_bytes()

    assert list(fileio.list_dir_or_file(REPOSITORY)) == ["clips.txt", "image.png", "videos", "weights.pth"]
    load = TRANSFORMS.build(dict(type="maskfeat.LoadWholeImage"))
    np.testing.assert_array_equal(load(dict(img_path=f"{REPOSITORY}/image.png"))["img"], image)
    model = torch.nn.Linear(1, 1)
    load_checkpoint(model, f"{REPOSITORY}/weights.pth")
    assert model.weight.item() == 1
    hub.sent = 0
    pipeline = [
        dict(type="maskfeat.OpenVideo"),
        dict(type="mmaction.SampleFrames", clip_len=4, frame_interval=4, num_clips=1, test_mode=True),
        dict(type="maskfeat.DecodeClip"),
    ]
    clips = []
    for list_file, folder in ((f"{REPOSITORY}/clips.txt", f"{REPOSITORY}/videos"), (tmp_path / "clips.txt", tmp_path)):
        (tmp_path / "clips.txt").write_bytes(hub.files["clips.txt"])
        settings = dict(ann_file=str(list_file), data_prefix=dict(video=str(folder)), test_mode=True)
        data = DATASETS.build(dict(type="maskfeat.VideoDataset", pipeline=pipeline, _scope_="mmaction", **settings))
        clips.append(data[0]["imgs"])
    np.testing.assert_array_equal(*clips)
    assert 100_000 < hub.sent < 0.6 * len(hub.files["videos/a.mp4"])


def test_faults(hub):
    hub.files["a.txt"] = b"a"
    hub.faults += [503, 503]
    assert fileio.get_text(f"{REPOSITORY}/a.txt") == "a" and not hub.faults
    with pytest.raises(FileNotFoundError, match=rf"{REPOSITORY}/none.txt does not exist"):
        fileio.get(f"{REPOSITORY}/none.txt")
    with pytest.raises(StorageError, match=r"hf://datasets/team/other/a.txt: the bucket .*team/other does not exist"):
        fileio.get("hf://datasets/team/other/a.txt")
    hub.faults += [403] * 100
    with pytest.raises(StorageError, match=rf"^{REPOSITORY}/a.txt: the storage refuses the access"):
        FsspecBackend(skip_instance_cache=True).get(f"{REPOSITORY}/a.txt")
    assert len(hub.faults) >= 95
    with pytest.raises(StorageError, match=rf"^{REPOSITORY}/a.txt: the storage fails"):
        FsspecBackend(endpoint="http://127.0.0.1:1", retries=1).get(f"{REPOSITORY}/a.txt")
