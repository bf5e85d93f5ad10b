"""Tests of inputs that are not local files (PIL images, tensors, arrays, URLs) and of the pictures in a notebook."""

import base64
import copy
import functools
import http.server
import io
import pickle
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from maskfeat_plugin.apis import ConfigError, MaskFeatInferencer
from maskfeat_plugin.config.given_arrays import to_array
from maskfeat_plugin.config.input_kinds import IMAGES, VIDEOS


def picture(height=48, width=64):
    """Draw a smooth picture, RGB."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


RGB = picture()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
ALPHA = np.dstack([RGB, np.full(RGB.shape[:2], 7, np.uint8)])
CLIP = np.stack([RGB, RGB[::-1]] * 4)  # (8, 48, 64, 3)
GREY_CLIP = np.stack([GREY, GREY[::-1]] * 4)


def image(given, channels=3, bits=8):
    return to_array(given, "it", IMAGES, "a config", channels, bits)


@pytest.fixture(scope="module")
def inferencer():
    return MaskFeatInferencer("maskfeat_vit-tiny_moving-digits", device="cpu", show_progress=False)


@pytest.mark.parametrize(
    "given",
    [
        RGB,
        ALPHA,
        RGB / 255,
        (RGB / 255).astype(np.float32),
        RGB.astype(np.uint16) * 257,
        Image.fromarray(RGB),
        Image.fromarray(ALPHA),
        torch.from_numpy(RGB),
        torch.from_numpy(RGB).permute(2, 0, 1),
        torch.from_numpy(RGB).permute(2, 0, 1) / 255,
        torch.from_numpy(ALPHA).permute(2, 0, 1),
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')} {np.shape(given)}",
)
def test_one_picture_of_many_types(given):
    array = image(given)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, RGB)


@pytest.mark.parametrize(
    "given",
    [
        GREY,
        GREY[..., None],
        GREY / 255,
        GREY.astype(np.uint16) * 257,
        Image.fromarray(GREY),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY.astype(np.int32) * 257),
        Image.fromarray(GREY.astype(np.float32) / 255),
        torch.from_numpy(GREY),
        torch.from_numpy(GREY)[None],
    ],
    ids=lambda given: (
        f"{type(given).__name__} {given.mode if isinstance(given, Image.Image) else ''} {np.shape(given)}"
    ),
)
def test_grey(given):
    np.testing.assert_array_equal(image(given), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(image(given, channels=1), GREY[..., None])


def test_other_modes_and_types():
    palette = Image.fromarray(RGB).quantize(8)
    np.testing.assert_array_equal(image(palette), np.asarray(palette.convert("RGB")))
    half = torch.from_numpy(RGB).permute(2, 0, 1).to(torch.bfloat16) / 255
    assert np.abs(image(half).astype(int) - RGB).max() <= 2
    deep = image(RGB / 255, bits=16)
    assert deep.dtype == np.uint16 and np.abs(deep.astype(int) - RGB.astype(int) * 257).max() <= 1
    np.testing.assert_array_equal(image(RGB.astype(np.uint16) * 200, bits=16), RGB.astype(np.uint16) * 200)


@pytest.mark.parametrize(
    "given, expected",
    [
        (CLIP, CLIP),
        (CLIP / 255, CLIP),
        (GREY_CLIP, np.stack([GREY_CLIP] * 3, -1)),
        (torch.from_numpy(CLIP), CLIP),
        (torch.from_numpy(CLIP).permute(0, 3, 1, 2), CLIP),
        (torch.from_numpy(CLIP).permute(3, 0, 1, 2), CLIP),
        (torch.from_numpy(CLIP[:4]).permute(0, 3, 1, 2), CLIP[:4]),  # an axis of 4 frames is not RGB with alpha
    ],
)
def test_clips(given, expected):
    np.testing.assert_array_equal(to_array(given, "it", VIDEOS, "a config", 3, 8), expected)


@pytest.mark.parametrize("mode, turned", [("RGB", 6), ("RGBA", 1), ("P", 1), ("L", 1), ("I;16", 1)])
def test_pil_images_are_read_like_their_files(inferencer, mode, turned, tmp_path):
    given = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    if mode == "RGBA":
        given.putalpha(Image.fromarray(GREY))
    exif = Image.Exif()
    exif[0x112] = turned  # a camera that was held upright
    given.save(tmp_path / "file.png", exif=exif)
    opened, file = inferencer([Image.open(tmp_path / "file.png"), tmp_path / "file.png"], mask=np.ones((5, 5), bool))
    assert (opened["name"], file["name"]) == ("image 0", str(tmp_path / "file.png"))
    np.testing.assert_array_equal(opened["target_features"], file["target_features"])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a folder with a picture, and return the address."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    Image.fromarray(RGB).save(folder / "file.png")
    (folder / "broken.png").write_bytes(b"no picture")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls(inferencer, server):
    folder, address = server
    url = f"{address}/file.png"
    results = inferencer([url, Path(url), folder / "file.png"], mask=np.ones((5, 5), bool))
    assert [result["name"] for result in results] == [url, url, str(folder / "file.png")]
    for result in results:
        np.testing.assert_array_equal(result["target_features"], results[2]["target_features"])
    for name, problem in (
        ("nothing.png", "cannot be downloaded: HTTP Error 404"),
        ("broken.png", "is no image"),
        ("film.mp4", "is a video, and .* takes images"),
    ):
        with pytest.raises(ConfigError, match=f"{re.escape(address)}/{name} {problem}"):
            inferencer(f"{address}/{name}")


def test_what_a_notebook_shows(inferencer, tmp_path):
    path = tmp_path / "<file>.png"
    Image.fromarray(RGB).save(path)
    results = inferencer([path, *[RGB] * 5], mask_ratio=0.6, seed=3, out_dir=tmp_path / "pictures")
    page = results._repr_html_()
    assert "&lt;file&gt;.png, loss" in page and "<file>" not in page and "<p>2 more</p>" in page
    assert len(re.findall("<img", page)) == 4
    drawn = np.asarray(Image.open(io.BytesIO(results[0]._repr_png_())))
    np.testing.assert_array_equal(drawn, np.asarray(Image.open(results[0]["picture"])))
    first = base64.b64decode(re.search('base64,([^"]*)', page)[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(first))), drawn)
    for same in (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)):
        assert type(same[0]) is dict and same[0]["loss"] == results[0]["loss"]
    path.unlink()
    assert results[0]._repr_png_() is None and results[1]._repr_png_()
    assert re.fullmatch(
        r"MaskFeatInferencer\('maskfeat_vit-tiny_moving-digits', '.*\.pth', 'cpu'\): MaskedViT predicts the targets of "
        "HOGGenerator for the masked ones of 5 x 5 tokens of images",
        repr(inferencer),
    )
