"""Tests of addresses that begin with gs://, with a server on this machine that imitates Google Cloud Storage.

They need gcsfs, which ``make setup`` does not install.
"""

import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

import fsspec.config
import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.runner import load_checkpoint

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.storage import FsspecBackend, StorageError

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks Google's own servers by gRPC
pytest.importorskip("gcsfs", reason="gcsfs is not installed")


class Storage(BaseHTTPRequestHandler):
    """Requests for a bucket, its list of objects, and (parts of) its objects, as gcsfs sends them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlparse(self.path)
        path, query, files = unquote(url.path), parse_qs(url.query), self.server.files
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.fullmatch(r"(?:/upload|/download)?/storage/v1/b/bucket(?:/o(?:/(.+))?)?", path)
        name = found and found[1]
        if self.server.faults:
            self.answer(self.server.faults.pop(0), b"{}")
        elif path == "/storage/v1/b/bucket":
            self.answer(200, json.dumps(dict(kind="storage#bucket", name="bucket")).encode())
        elif path.startswith("/upload") and query["uploadType"] == ["multipart"]:
            _, head, content, _ = re.split(rb"\n?--==0==(?:--)?\n?", body)
            name = json.loads(head.partition(b"\n\n")[2])["name"]
            files[name] = content.partition(b"\n\n")[2]
            self.answer(200, self.describe(name))
        elif path == "/storage/v1/b/bucket/o":
            prefix = query.get("prefix", [""])[0]
            names = [name for name in files if name.startswith(prefix)]
            direct = [name for name in names if "/" not in name[len(prefix) :] or "delimiter" not in query]
            folders = {prefix + name[len(prefix) :].partition("/")[0] + "/" for name in set(names) - set(direct)}
            items = [json.loads(self.describe(name)) for name in direct]
            self.answer(200, json.dumps(dict(kind="storage#objects", items=items, prefixes=sorted(folders))).encode())
        elif name in files and self.command == "DELETE":
            del files[name]
            self.answer(204, b"")
        elif name in files and not path.startswith("/download"):
            self.answer(200, self.describe(name))
        elif name in files:
            content, part = files[name], re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, stop = (int(part[1]), int(part[2]) + 1) if part else (0, len(content))
            self.server.sent += len(content[start:stop])
            self.answer(206 if part else 200, content[start:stop])
        else:
            self.answer(404, b"{}")

    do_POST = do_DELETE = do_GET

    def describe(self, name):
        entry = dict(kind="storage#object", name=name, bucket="bucket", size=str(len(self.server.files[name])))
        return json.dumps(dict(entry, updated="2026-01-01T00:00:00.000Z", etag="1", generation="1")).encode()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def store(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    server.files, server.faults, server.sent = {}, [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = dict(endpoint_url=f"http://127.0.0.1:{server.server_port}", token="anon")
    monkeypatch.setattr(fsspec.config, "conf", dict(gs=options))  # as FSSPEC_GS in a new process
    monkeypatch.setattr("maskfeat_plugin.storage._FIRST_WAIT", 0.01)
    yield server
    server.shutdown()
    server.server_close()


def test_files_and_folders(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    fileio.put_text("a", "gs://bucket/tree/a.txt")
    content = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8).tobytes()
    fileio.put(content, "gs://bucket/tree/deep/b.bin")
    assert store.files == {"tree/a.txt": b"a", "tree/deep/b.bin": content}
    assert sorted(fileio.list_dir_or_file("gs://bucket/tree")) == ["a.txt", "deep"]
    assert fileio.get_text("gs://bucket/tree/a.txt") == "a" and fileio.exists("gs://bucket/tree/deep")
    store.sent = 0
    with FsspecBackend().open("gs://bucket/tree/deep/b.bin") as file:
        file.seek(3_000_000)
        assert file.read(100) == content[3_000_000:3_000_100]
    assert 0 < store.sent < 1_500_000
    torch.save(dict(state_dict=dict(weight=torch.ones(1, 1), bias=torch.ones(1))), tmp_path / "weights.pth")
    fileio.copyfile_from_local(tmp_path / "weights.pth", "gs://bucket/weights.pth")
    model = torch.nn.Linear(1, 1)
    load_checkpoint(model, "gs://bucket/weights.pth")
    assert model.weight.item() == 1
    fileio.remove("gs://bucket/tree/a.txt")
    assert not fileio.exists("gs://bucket/tree/a.txt")


def test_faults(store):
    store.files["a.txt"] = b"a"
    store.faults += [503]
    assert FsspecBackend(skip_instance_cache=True).get("gs://bucket/a.txt") == b"a" and not store.faults
    with pytest.raises(FileNotFoundError, match=r"gs://bucket/none.txt does not exist"):
        fileio.get("gs://bucket/none.txt")
    with pytest.raises(StorageError, match=r"gs://other/a.txt: the bucket other does not exist"):
        fileio.get("gs://other/a.txt")
    store.faults += [403] * 100
    with pytest.raises(StorageError, match=r"^gs://bucket/a.txt: the storage refuses the access"):
        FsspecBackend(skip_instance_cache=True).get("gs://bucket/a.txt")
    assert len(store.faults) >= 95
