"""Images with more bytes after their end, such as the video of a motion photo, are whole. Cut images are refused."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfeat_plugin.preparation.readable import check_image
from maskfeat_plugin.registry import TRANSFORMS

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
LOAD = TRANSFORMS.build(dict(type="maskfeat.LoadWholeImage"))
JPEG = dict(
    baseline=[],
    progressive=[cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    restarts=[cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
    optimised=[cv2.IMWRITE_JPEG_OPTIMIZE, 1],
)


def encode(ending=".jpg", options=()):
    return cv2.imencode(ending, PIXELS, list(options))[1].tobytes()


def with_thumbnail():
    """Return a photo with a thumbnail as cameras write it: a JPEG inside the first segment."""
    thumbnail = cv2.imencode(".jpg", PIXELS[::4, ::4])[1].tobytes()
    segment = b"Exif\0\0" + thumbnail
    whole = encode()
    return whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]


PHOTOS = {name: encode(options=options) for name, options in JPEG.items()} | dict(thumbnail=with_thumbnail())
TAILS = {
    "zeros": bytes(100),
    "a-scan-marker": b"ftyp\xff\xda\0\x0c video",
    "a-jpeg-that-is-cut": encode()[:400],
    "another-jpeg": encode(),
    "noise": np.random.default_rng(1).integers(0, 256, 100_000, dtype=np.uint8).tobytes(),
    "a-start": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("photo", PHOTOS)
def test_bytes_after_the_end(tmp_path, photo, tail):
    path = tmp_path / "a.jpg"
    path.write_bytes(PHOTOS[photo] + TAILS[tail])
    expected = cv2.imdecode(np.frombuffer(PHOTOS[photo], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(LOAD(dict(img_path=str(path)))["img"], expected)
    assert check_image(str(path), "fast") is None and check_image(str(path), "full") is None


@pytest.mark.parametrize("ending", [".png", ".webp", ".bmp", ".tiff", ".ppm"])
def test_other_formats_with_bytes_after_the_end(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(encode(ending) + TAILS["a-scan-marker"])
    assert LOAD(dict(img_path=str(path)))["img"].shape == PIXELS.shape
    assert check_image(str(path), "fast") is None and check_image(str(path), "full") is None


def refuses(tmp_path, content):
    path = tmp_path / "cut.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cut.jpg is (cut short|no image)"):
        LOAD(dict(img_path=str(path)))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("photo", PHOTOS)
def test_photos_that_are_cut_are_still_refused(tmp_path, photo, share):
    refuses(tmp_path, PHOTOS[photo][: int(share * len(PHOTOS[photo]))])


def check_any_cut(tmp_path, photo, length, tail):
    """Check that a photo that is cut anywhere is refused, and that a whole photo with any tail is not."""
    whole = PHOTOS[photo]
    refuses(tmp_path, whole[: min(length, len(whole) - 2)])
    (tmp_path / "whole.jpg").write_bytes(whole + tail)
    assert LOAD(dict(img_path=str(tmp_path / "whole.jpg")))["img"].shape == PIXELS.shape


CUTS = dict(photo=st.sampled_from(sorted(PHOTOS)), length=st.integers(1, 20_000), tail=st.binary(max_size=300))


@settings(max_examples=40)
@given(**CUTS)
def test_any_cut(tmp_path_factory, photo, length, tail):
    check_any_cut(tmp_path_factory.getbasetemp(), photo, length, tail)


@pytest.mark.long
@settings(max_examples=2000)
@given(**CUTS)
def test_many_cuts(tmp_path_factory, photo, length, tail):
    check_any_cut(tmp_path_factory.getbasetemp(), photo, length, tail)
