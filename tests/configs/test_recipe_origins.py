"""Configs of tasks without a recipe of the authors mark the origin of each number; one key selects the authors' way."""

import io
import tokenize
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope

from maskfeat_cli.folders import configs_folder
from maskfeat_cli.named_configs import named_configs
from maskfeat_plugin.registry import MODELS

AVA = sorted((configs_folder() / "action_detection").glob("*.py"))
SSV2 = [
    path for path in sorted((configs_folder() / "recognition").glob("*_sthv2.py")) if path in named_configs().values()
]
BASES = sorted(path for task in ("ava", "sthv2") for path in (configs_folder() / "_base_").glob(f"*/*{task}*.py"))
PAGE = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
# Numbers that are not a choice: the classes of the data sets
NO_CHOICE = ("num_classes=81", "num_classes = 174")


def unmarked(text):
    """Yield lines with a number, and without "authors" or "ours" in a comment beside or above them."""
    lines = text.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    notes = {token.start[0] for token in tokens if token.type == tokenize.COMMENT and is_note(token.string)}
    numbers = {token.start[0] for token in tokens if token.type == tokenize.NUMBER}
    for number in sorted(numbers):
        above = number - 1 in notes and lines[number - 2].lstrip().startswith("#")
        line = lines[number - 1]
        if number not in notes and not above and not any(kept in line for kept in NO_CHOICE):
            yield line.strip()


def is_note(comment):
    return "authors" in comment or "ours" in comment


@pytest.mark.parametrize("path", AVA + SSV2 + BASES, ids=lambda path: path.stem)
def test_each_number_is_the_authors_or_ours(path):
    assert list(unmarked(path.read_text())) == []


def test_unmarked_numbers_are_found():
    assert list(unmarked("a = 1\nb = 2  # ours\n# authors\nc = [3]\nd = 4\n")) == ["a = 1", "d = 4"]
    assert len(AVA) == len(SSV2) == 3 and len(BASES) == 7


@pytest.mark.parametrize("path", AVA, ids=lambda path: path.stem.partition("_")[0])
def test_the_authors_way_to_read_boxes_is_one_key_away(path):
    """The page's option builds mmaction2's extractor, whose boxes are 15.5 pixels away from this package's."""
    option = next(part for part in PAGE.split("`") if part.startswith("--cfg-options model.roi_head"))
    key, _, value = option.removeprefix("--cfg-options ").partition("=")
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope("mmdet"):
        ours = MODELS.build(cfg.model.roi_head.bbox_roi_extractor)
        cfg.merge_from_dict({key: DictAction._parse_iterable(value)})
        theirs = MODELS.build(cfg.model.roi_head.bbox_roi_extractor)
    assert type(theirs).__name__ == "SingleRoIExtractor3D" and theirs.aligned
    features, boxes = torch.randn(1, 8, 4, 7, 7), torch.tensor([[0.0, 60.0, 50.0, 150.0, 180.0]])
    moved = boxes + torch.tensor([0.0, 15.5, 15.5, 15.5, 15.5])
    torch.testing.assert_close(theirs(features, moved)[0], ours(features, boxes)[0])
    assert not torch.allclose(theirs(features, boxes)[0], ours(features, boxes)[0], atol=1e-3)
