"""The page about checkpoints is complete, and its lines build the models that they name."""

import json
import re
from pathlib import Path

import pytest
import torch

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.checkpoints import FORMATS, from_state_dict, load_into
from maskfeat_plugin.registry import MODELS, WEIGHT_INITIALIZERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "checkpoints.md").read_text()
SHAPES = json.loads((ROOT / "tests" / "data" / "official_checkpoint_shapes.json").read_text())
LINES = dict(re.findall(r"^\| `(\w+)` \|.*\| `backbone=(dict\(.*\))` \|$", PAGE, re.MULTILINE))


def test_page_is_complete():
    assert set(LINES) == set(SHAPES)
    for form in FORMATS:
        assert f"`{form.name}`" in PAGE


@pytest.mark.parametrize("name", SHAPES)
def test_line_of_the_page(name):
    config = eval(LINES[name])  # a line of this project's page
    assert WEIGHT_INITIALIZERS.build(config.pop("init_cfg")).checkpoint.endswith(".pyth")
    shapes = SHAPES[name]
    with torch.device("meta"):
        backbone = MODELS.build(config)
        report = load_into(backbone, from_state_dict({k: torch.empty(v) for k, v in shapes.items()}, name))
    norm = "ln2" if "VIT_" in name.split("MVIT")[0] else "norm3"
    new = [] if name.endswith("_FT") else [f"{norm}.weight", f"{norm}.bias"]
    assert report.initial == new
    # only the additional stride of fine-tuning shortens the last blocks' tables of positions
    assert all(re.search(r"\.rel_pos_[hw]$", key) for key in report.resized)
    assert bool(report.resized) == (name.endswith("_PT") and norm == "norm3")
    assert report.found > 0.999
