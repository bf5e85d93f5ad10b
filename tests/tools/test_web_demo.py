"""Tests of the web demo: the tool runs in a process, and gradio's client and Chromium send requests."""

import http.client
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browser import ARGUMENTS
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from tool_modules import load_tool

from maskfeat_plugin.apis import MaskFeatInferencer
from maskfeat_plugin.apis.web_guard import LARGEST_REQUEST
from maskfeat_plugin.visualization.masks import MASK_GREY

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "web_demo.py"
NUMBER = re.compile(r"^0\.\d{4}$")


@pytest.fixture(scope="module")
def tool():
    return load_tool("web_demo").main


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Address of the tool, which runs on a free port with its default models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("web_demo")
    command = [sys.executable, "-u", "-W", "ignore", str(TOOL), "--port", str(port), "--device", "cpu"]
    environment = dict(os.environ, GRADIO_TEMP_DIR=str(folder / "gradio"), OMP_NUM_THREADS="1")
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        url, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + 180
        while f"is at {url}" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def client(address, tmp_path_factory):
    found = Client(address, download_files=str(tmp_path_factory.mktemp("pictures")), verbose=False)
    yield found
    found.close()


@pytest.fixture(scope="module")
def files(digits):
    """Files of a frame and a clip."""
    return [sorted((digits / "data" / "moving_digits" / kind / "test").iterdir())[0] for kind in ("frames", "videos")]


def grey_tokens(picture, grid):
    """Count the grey tokens of the first frame."""
    side = picture.shape[0]
    token = side // grid
    tokens = picture[:, :side].reshape(grid, token, grid, token, 3)
    return int((tokens == MASK_GREY).all((1, 3, 4)).sum())


def test_an_image_by_the_client(client, files):
    masked, prediction, target, original, loss, baseline = client.predict(
        handle_file(files[0]), 0.6, 3, api_name="/image"
    )
    pictures = [np.asarray(Image.open(path)) for path in (masked, prediction, target, original)]
    assert [picture.shape for picture in pictures] == [(240, 240, 3)] * 4
    assert grey_tokens(pictures[0], 5) == 15  # 0.6 of 25
    grey = (pictures[0] == MASK_GREY).all(-1)
    np.testing.assert_array_equal(pictures[0][~grey], pictures[3][~grey])
    inferencer = MaskFeatInferencer("maskfeat_vit-tiny_moving-digits", device="cpu", show_progress=False)
    (result,) = inferencer(files[0], mask_ratio=0.6, seed=3)
    assert loss == f"{result['loss']:.4f}"
    true = result["target_features"]
    assert float(baseline) == pytest.approx(((true - true.mean(0)) ** 2).mean(), abs=1e-4)
    tokens = result["mask"][0].repeat(48, axis=0).repeat(48, axis=1)
    np.testing.assert_array_equal(grey & tokens, tokens)  # the mask of this seed
    other = client.predict(handle_file(files[0]), 0.6, 4, api_name="/image")
    assert not np.array_equal(np.asarray(Image.open(other[0])), pictures[0])


def test_a_clip_by_the_client(client, files):
    *stills, moving, loss, baseline = client.predict(handle_file(files[1]), 0.4, 0, api_name="/clip")
    pictures = [np.asarray(Image.open(path)) for path in stills]
    assert [picture.shape for picture in pictures] == [(224, 4 * 224 + 3 * 6, 3)] * 4  # four time steps in a row
    assert 0 < grey_tokens(pictures[0], 4) <= 16
    with Image.open(moving) as gif:
        assert gif.format == "GIF" and gif.n_frames == 4
    assert 0 < float(loss) < 1 and 0 < float(baseline) < 1


def test_a_file_that_is_no_clip_is_named(client, files, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(files[1].read_bytes()[:200])
    with pytest.raises(AppError, match="broken.mp4"):
        client.predict(handle_file(broken), 0.4, 0, api_name="/clip")


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of sockets")
def test_it_listens_to_this_machine_alone(address):
    port = f"{int(address.rstrip('/').rpartition(':')[2]):04X}"
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
            local, state = line.split()[1], line.split()[3]
            if local.endswith(f":{port}") and state == "0A":  # listening
                found.append(local.partition(":")[0])
    assert found == ["0100007F"]


def ask(address, path="/", body=None, **headers):
    """Send a request with headers that a browser does not allow, and return status and text of the answer."""
    port = int(address.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest("GET" if body is None else "POST", path, skip_host=True)
        for name, value in dict(dict(Host=f"127.0.0.1:{port}"), **headers).items():
            for item in value if isinstance(value, list) else [value]:
                if item is not None:
                    connection.putheader(name, item)
        connection.endheaders()
        try:
            for chunk in body or ():
                connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        except (BrokenPipeError, ConnectionResetError):  # the server answered before the end of the request
            pass
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info"])
@pytest.mark.parametrize(
    "headers",
    [
        dict(Host="example.com"),
        dict(Host="example.com:7860"),
        dict(Host="127.0.0.1.example.com"),
        dict(Host="localhost@example.com"),
        dict(Host="0.0.0.0"),
        dict(Host=""),
        dict(Origin="http://example.com"),
        dict(Origin="null"),
        dict(Origin="http://127.0.0.1.example.com"),
    ],
)
def test_requests_of_other_sites_are_refused(address, path, headers):
    status, text = ask(address, path, **headers)
    assert status == 403 and "is not this machine" in text


def test_a_request_without_a_host_or_with_two_is_refused(address):
    for host in (None, ["127.0.0.1", "example.com"], ["example.com", "127.0.0.1"]):
        assert ask(address, Host=host)[0] in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "LocalHost:1", "[::1]:7860"])
def test_names_of_this_machine_are_accepted(address, host):
    status, text = ask(address, Host=host, Origin=f"http://{host}")
    assert status == 200 and "MaskFeat" in text


def test_uploads_are_limited(client, address, files, tmp_path):
    path = "/gradio_api/upload"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    status, text = ask(address, path, [], **kind, **{"Content-Length": str(LARGEST_REQUEST + 1)})
    assert status == 413 and "larger than 100 MB" in text
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    chunks = itertools.chain([head], itertools.repeat(b"0" * 2**20, 130))
    status, _ = ask(address, path, chunks, **kind, **{"Transfer-Encoding": "chunked"})
    assert status == 413
    whole = itertools.chain([b"{"], itertools.repeat(b" " * 2**20, 130))
    kind = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    status, _ = ask(address, "/gradio_api/run/image", whole, **kind)
    assert status in (400, 413)
    large = tmp_path / "large.mp4"
    with open(large, "wb") as file:
        file.truncate(LARGEST_REQUEST + 2**20)
    with pytest.raises(Exception, match="exceeds the maximum file size|413"):
        client.predict(handle_file(large), 0.4, 0, api_name="/clip")
    assert client.predict(handle_file(files[0]), 0.6, 3, api_name="/image")  # the server still works


def test_the_page_in_chromium(chromium, address, files, tmp_path):
    """Check that the page renders, predicts for a dropped image and a moved slider, and needs no other machine."""
    with urllib.request.urlopen(address) as response:
        assert response.headers["content-security-policy"].startswith("default-src 'self'")
    requests, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        page = browser.new_page(viewport=dict(width=1200, height=900))
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        expect(page.get_by_role("heading", name="MaskFeat: predict the masked parts")).to_be_visible(timeout=60_000)
        slider = page.locator("input[type=range]").first
        expect(slider).to_be_visible()
        assert (slider.get_attribute("min"), slider.input_value()) == ("0.05", "0.4")
        loss, baseline = (page.get_by_label(name).first for name in ("Loss of this prediction", "Baseline"))
        page.get_by_text("Examples: click one").first.wait_for()
        page.locator(".gallery-item:visible").nth(1).click()
        expect(loss).to_have_value(NUMBER, timeout=60_000)
        expect(baseline).to_have_value(NUMBER)
        first = loss.input_value()
        page.locator("input[type=file]").first.set_input_files(files[0])
        expect(loss).not_to_have_value(first, timeout=60_000)
        first = loss.input_value()
        # the image, its four pictures and the examples may become visible after the loss is printed
        expect(page.locator("img:visible")).to_have_count(5 + 3, timeout=60_000)
        slider.focus()
        slider.press("End")
        slider.dispatch_event("pointerup")
        expect(loss).not_to_have_value(first, timeout=60_000)
        page.get_by_role("tab", name="Clip").click()
        expect(page.get_by_text("All pictures, animated")).to_be_visible()
        page.locator(".gallery-item:visible").first.click()
        loss = page.locator("input:visible, textarea:visible").and_(page.get_by_label("Loss of this prediction"))
        expect(loss).to_have_value(NUMBER, timeout=60_000)
        page.wait_for_function("[...document.querySelectorAll('video')].some(v => v.currentTime > 0 && v.loop)")
        browser.close()
    # Once in some ten runs, a single transfer broke off while the page showed everything. The cause is not known
    broken = [text for text in errors if "net::ERR_CONTENT_LENGTH_MISMATCH" in text]
    assert len(broken) <= 1 and [text for text in errors if text not in broken] == []
    outside = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == [] and len(requests) > 10


def test_without_gradio_it_says_what_to_install(tool, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)  # Python then raises ImportError, as for a missing module
    assert tool([]) == 1
    assert "error: the web demo needs the package gradio: pip install 'maskfeat_plugin[web]'" in capsys.readouterr().err


def test_a_config_needs_its_checkpoint(tool, capsys):
    assert tool(["some.py"]) == 1
    assert "CHECKPOINT is missing. Give the weights of some.py too" in capsys.readouterr().err
