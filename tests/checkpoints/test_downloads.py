"""Checkpoints by URL: the cache holds the correct file for the whole URL, and no file that is cut off or damaged."""

import hashlib
import io
import multiprocessing
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner.checkpoint import _load_checkpoint
from small_models import build, pretraining_state

from maskfeat_plugin.checkpoints import (
    CheckpointError,
    UnsafeCheckpointError,
    load_network,
    local_file,
    read_checkpoint,
)
from maskfeat_plugin.downloads import DownloadError


def content(seed, **more):
    """Return the bytes of a checkpoint whose weights depend on the seed."""
    file = io.BytesIO()
    torch.save(dict(state_dict=pretraining_state("vit", seed), **more), file)
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Server of ``files``, path -> bytes; ``harm`` changes every answer, ``asked`` counts the requests."""

    files: dict[str, bytes]
    harm = ""
    asked = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked += 1
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        if server.harm == "chunked":
            self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        if server.harm == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif not server.harm.startswith("no length"):
            self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", hashlib.md5(body).hexdigest())
        self.end_headers()
        if server.harm == "chunked":
            self.wfile.write(b"%x\r\n" % len(body) + body[: len(body) // 2])
            self.close_connection = True
        elif server.harm.endswith("cut off"):
            self.wfile.write(body[: len(body) // 2])
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(files):
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files = files
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub):
    return sorted(path for path in hub.rglob("*") if path.is_file() and path.suffix not in (".lock", ".json"))


def seed_of(url):
    state = read_checkpoint(url).state
    for seed in range(4):
        if all(torch.equal(state[key], value) for key, value in pretraining_state("vit", seed).items()):
            return seed
    raise AssertionError("none of these weights")


def test_the_whole_url_is_the_key(hub):
    files = {path: content(i) for i, path in enumerate(("/a/e.pth", "/b/e.pth", "/a/e.pth?v=2", "/a/e.pth;x"))}
    with serving(files) as (_, address):
        written = []
        for _ in range(2):
            assert [seed_of(address + path) for path in files] == [0, 1, 2, 3]
            written.append([path.stat().st_mtime_ns for path in cached(hub)])
        assert len(written[0]) == 4
        assert written[0] == written[1]  # downloaded once
    with serving({"/a/e.pth": content(3)}) as (_, other):
        assert seed_of(f"{other}/a/e.pth") == 3


def test_every_reader_looks_at_the_whole_url():
    """mmengine's own ``Pretrained`` and frozen networks of target generators download files too."""
    files = {f"/{i}/e.pth": content(i) for i in range(2)}
    network = build("mmpretrain.VisionTransformer")
    with serving(files) as (_, address):
        for i in range(2):
            state = pretraining_state("vit", i)
            url = f"{address}/{i}/e.pth"
            assert torch.equal(_load_checkpoint(url)["state_dict"]["neck.fc.bias"], state["neck.fc.bias"])
            load_network(network, url, key="target_generator.network", prefix="backbone.")
            assert torch.equal(network.cls_token, state["backbone.cls_token"])


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "e poch.pth"
    with serving({"/e.pth": b""}) as (server, address):
        for seed in range(2):
            server.files["/e.pth"] = content(seed)
            path.write_bytes(content(seed))
            assert seed_of(path.as_uri()) == seed
            assert seed_of(f"{address}/e.pth") == seed
    assert local_file(path.as_uri()) == path


def test_a_server_that_is_gone(hub):
    with serving({"/e.pth": content(1)}) as (_, address):
        assert seed_of(f"{address}/e.pth") == 1
        with pytest.raises(CheckpointError, match=r"missing\.pth cannot be downloaded: HTTP Error 404"):
            read_checkpoint(f"{address}/missing.pth")
    assert seed_of(f"{address}/e.pth") == 1
    with pytest.raises(CheckpointError, match=r"f\.pth cannot be downloaded.*Check the URL and the network"):
        read_checkpoint(f"{address}/f.pth")
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        read_checkpoint("http://127.0.0.1:99999/e.pth")
    assert len(cached(hub)) == 1


@pytest.mark.parametrize("harm", ["cut off", "no length, cut off", "chunked"])
def test_nothing_that_is_cut_off_is_kept(harm, hub):
    with serving({"/e.pth": content(1)}) as (server, address):
        server.harm = harm
        with pytest.raises(CheckpointError, match=f"^{address}/e.pth"):
            read_checkpoint(f"{address}/e.pth")
        with pytest.raises(DownloadError, match=f"^{address}/e.pth"):
            _load_checkpoint(f"{address}/e.pth")
        assert cached(hub) == []
        server.harm = "no length"
        assert seed_of(f"{address}/e.pth") == 1


def test_what_is_no_checkpoint_is_not_kept(hub):
    files = {"/login.pth": b"<html>", "/evil.pth": content(0, evil=threading.Thread), "/empty.pth": b""}
    with serving(files) as (_, address):
        for path, error in zip(files, (CheckpointError, UnsafeCheckpointError, CheckpointError), strict=True):
            with pytest.raises(error, match=f"^{address}{path} is"):
                read_checkpoint(address + path)
    assert cached(hub) == []


def test_the_cache_is_not_trusted_blindly(hub):
    with serving({"/e.pth": content(1)}) as (_, address):
        assert seed_of(f"{address}/e.pth") == 1
        (path,) = cached(hub)
        path.write_bytes(path.read_bytes()[:-100])
        assert seed_of(f"{address}/e.pth") == 1
        record = path.with_name(f".{path.name}.json")
        for text in ("", "[1]", '{"length": 3', "[" * 9999):
            record.write_text(text)
            assert seed_of(f"{address}/e.pth") == 1


def test_hash_in_the_name(hub, tmp_path):
    body = content(2)
    right, wrong = (f"m_20230131-{digits}.pth" for digits in (hashlib.sha256(body).hexdigest()[:8], "0123abcd"))
    with serving({f"/{name}": body for name in (right, wrong, "m-20230131.pth")}) as (server, address):
        with pytest.raises(CheckpointError, match="its SHA-256 begins with .* instead of 0123abcd"):
            read_checkpoint(f"{address}/{wrong}")
        assert seed_of(f"{address}/m-20230131.pth") == 2  # a date
        assert seed_of(f"{address}/{right}") == 2
        asked = server.asked
        assert seed_of(f"{address}/{right}") == 2
        assert server.asked == asked  # the file cannot have changed
    # files in torch's cache are used if the hash in the name is correct
    for name in (right, wrong):
        (hub / "checkpoints" / name).write_bytes(body)
        (tmp_path / name).write_bytes(body)
    assert seed_of(f"http://127.0.0.1:9/{right}") == 2
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        read_checkpoint(f"http://127.0.0.1:9/{wrong}")
    assert seed_of((tmp_path / right).as_uri()) == 2
    with pytest.raises(CheckpointError, match="does not begin with 0123abcd"):
        read_checkpoint((tmp_path / wrong).as_uri())


def test_odd_urls(tmp_path):
    with pytest.raises(CheckpointError, match="three slashes"):
        read_checkpoint("file://folder/file.pth")
    with pytest.raises(FileNotFoundError, match=r"no ne\.pth does not exist"):
        read_checkpoint((tmp_path / "no ne.pth").as_uri())
    files = {path: content(i) for i, path in enumerate(("/a/..", "/", "/" + "x" * 300 + ".pth", "/%2e%2e%2fe.pth"))}
    with serving(files) as (_, address):
        assert [seed_of(address + path) for path in files] == [0, 1, 2, 3]


def test_an_interruption_leaves_nothing_that_is_read(hub):
    """A process is killed during the download."""
    body = content(3)
    half = threading.Event()

    class Slow(Handler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            if not half.is_set():
                half.set()
                threading.Event().wait(20)
            self.wfile.write(body[len(body) // 2 :])

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/e.pth"
        code = f"import torch; torch.hub.set_dir({str(hub)!r})\nfrom maskfeat_plugin.checkpoints import local_file\n"
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", f"{code}local_file({url!r})"])
        assert half.wait(120)
        process.kill()
        process.wait()
        assert seed_of(url) == 3
        assert len(cached(hub)) == 1
        server.shutdown()


def download(url, folder):
    torch.hub.set_dir(folder)
    return local_file(url).stat().st_size


def test_processes_download_one_after_the_other(hub):
    body = content(1)
    with serving({"/e.pth": body}) as (_, address):
        with multiprocessing.get_context("fork").Pool(3) as pool:
            sizes = pool.starmap(download, [(f"{address}/e.pth", str(hub))] * 3)
        assert sizes == [len(body)] * 3
        assert len(cached(hub)) == 1
