"""Tests of the pictures of docs/concepts.md: they are up to date and show the real masks and targets."""

from pathlib import Path

import numpy as np
import pytest
from pictures import share_of_difference
from tool_modules import load_tool

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.visualization.masks import MASK_GREY
from projects.documentation import concept_pictures

ROOT = Path(__file__).parents[2]
NAMES = [f"concepts_{name}.png" for name in ("steps", "token", "frames", "clip")]


@pytest.fixture(scope="module")
def draw():
    return load_tool("draw_concepts").main


@pytest.fixture(scope="module")
def folder(draw, tmp_path_factory):
    """New folder with the pictures."""
    out = tmp_path_factory.mktemp("pictures") / "new"
    assert draw(["--out", str(out)]) == 0
    return out


def test_the_pictures_of_the_docs_are_those_of_the_code(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (ROOT / "docs" / name).stat().st_size < 250_000
        different = share_of_difference(ROOT / "docs" / name, folder / name, letters=name == "concepts_token.png")
        assert different < 0.01, f"{name}: run python tools/draw_concepts.py --out docs"


def test_the_mask_of_the_steps_is_that_of_its_seed():
    photo = concept_pictures.sample_photo()
    for seed in (0, 1):
        picture = concept_pictures.draw_steps(photo, seed)
        mask = TRANSFORMS.build(dict(concept_pictures.MASK, seed=seed))({})["mask"]
        side = 14 * 24
        left, top = 8 + 2 * (side + 8), 8 + 26  # the third picture of the first row
        part = picture[top : top + side, left : left + side].reshape(14, 24, 14, 24, 3)
        np.testing.assert_array_equal((part == MASK_GREY).all((1, 3, 4)), mask)


def test_strokes_are_those_of_the_target():
    """Check that an image of vertical stripes has votes only in the bin of horizontal gradients."""
    stripes = np.zeros((224, 224, 3), np.uint8)
    stripes[:, ::16] = stripes[:, 1::16] = 255
    hog = concept_pictures.histograms(stripes)
    assert hog.shape == (3, 9, 28, 28)
    votes = hog[:, :, 4:-4, 4:-4].sum((0, 2, 3))
    # the bins of HOG start at the y axis, so the middle bin is 90 degrees
    assert votes.argmax() == 4 and votes[4] > 0.99 * votes.sum()


def test_bad_arguments_are_one_line(draw, tmp_path, capsys, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")

    def error(*arguments):
        assert draw(list(arguments)) == 1
        text = capsys.readouterr().err.strip()
        assert text.startswith("error: ") and "\n" not in text
        return text

    assert f"--out={str(file)!r}: cannot write there" in error("--out", str(file))
    assert "--seed=-1 has to be 0 or more" in error("--out", str(tmp_path), "--seed", "-1")

    def missing():
        raise ImportError("MovingDigits needs the package 'sklearn'")

    monkeypatch.setattr(concept_pictures, "load_photos", missing)
    assert "needs the package 'sklearn'" in error("--out", str(tmp_path))
    assert file.read_text() == "" and list(tmp_path.iterdir()) == [file]
