"""The web demo as its users have it: the tool in a process, asked by gradio's client and by Chromium."""

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
from maskfeat_plugin.visualization.masks import MASK_GREY

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "web_demo.py"
NUMBER = re.compile(r"^0\.\d{4}$")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tool():
    return load_tool("web_demo").main


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the tool, running on a free port, with the models that it takes by default."""
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
    """A frame and a clip."""
    return [sorted((digits / "data" / "moving_digits" / kind / "test").iterdir())[0] for kind in ("frames", "videos")]


def grey_tokens(picture, grid):
    """How many tokens of the first frame are grey."""
    side = picture.shape[0]
    token = side // grid
    tokens = picture[:, :side].reshape(grid, token, grid, token, 3)
    return int((tokens == MASK_GREY).all((1, 3, 4)).sum())


def test_an_image_by_the_client(client, files):
    masked, prediction, target, original, loss = client.predict(handle_file(files[0]), 0.6, 3, api_name="/image")
    pictures = [np.asarray(Image.open(path)) for path in (masked, prediction, target, original)]
    assert [picture.shape for picture in pictures] == [(240, 240, 3)] * 4
    assert grey_tokens(pictures[0], 5) == 15  # 0.6 of 25
    hidden = (pictures[0] == MASK_GREY).all(-1)
    np.testing.assert_array_equal(pictures[0][~hidden], pictures[3][~hidden])
    inferencer = MaskFeatInferencer("maskfeat_vit-tiny_moving-digits", device="cpu", show_progress=False)
    (result,) = inferencer(files[0], mask_ratio=0.6, seed=3)
    assert loss == f"{result['loss']:.4f}"
    tokens = result["mask"][0].repeat(48, axis=0).repeat(48, axis=1)
    np.testing.assert_array_equal(hidden & tokens, tokens)  # the mask of this seed
    other = client.predict(handle_file(files[0]), 0.6, 4, api_name="/image")
    assert not np.array_equal(np.asarray(Image.open(other[0])), pictures[0])


def test_a_clip_by_the_client(client, files):
    *stills, moving, loss = client.predict(handle_file(files[1]), 0.4, 0, api_name="/clip")
    pictures = [np.asarray(Image.open(path)) for path in stills]
    assert [picture.shape for picture in pictures] == [(224, 4 * 224 + 3 * 6, 3)] * 4  # time steps side by side
    assert 0 < grey_tokens(pictures[0], 4) <= 16
    with Image.open(moving) as gif:
        assert gif.format == "GIF" and gif.n_frames == 4
    assert 0 < float(loss) < 1


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


def test_the_page_in_chromium(chromium, address, files, tmp_path):
    """It renders, predicts for a dropped image and a moved slider, and asks nothing of another machine."""
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
        expect(page.get_by_role("heading", name="MaskFeat: predict what is hidden")).to_be_visible(timeout=60_000)
        slider = page.locator("input[type=range]").first
        expect(slider).to_be_visible()
        assert (slider.get_attribute("min"), slider.input_value()) == ("0.05", "0.4")
        page.locator("input[type=file]").first.set_input_files(files[0])
        loss = page.get_by_label("Loss of this prediction").first
        expect(loss).to_have_value(NUMBER, timeout=60_000)
        first = loss.input_value()
        # The image, and the four pictures of it: visible once loaded, which may be after the loss is written
        expect(page.locator("img:visible")).to_have_count(5, timeout=60_000)
        slider.focus()
        slider.press("End")
        slider.dispatch_event("pointerup")
        expect(loss).not_to_have_value(first, timeout=60_000)
        page.get_by_role("tab", name="Clip").click()
        expect(page.get_by_text("All of it, moving")).to_be_visible()
        browser.close()
    assert errors == []
    outside = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == [] and len(requests) > 10


def test_without_gradio_it_says_what_to_install(tool, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as in an environment without it
    assert tool([]) == 1
    assert "error: the web demo needs the package gradio: pip install 'maskfeat_plugin[web]'" in capsys.readouterr().err


def test_a_config_needs_its_checkpoint(tool, capsys):
    assert tool(["some.py"]) == 1
    assert "CHECKPOINT is missing: give the weights of some.py too" in capsys.readouterr().err
