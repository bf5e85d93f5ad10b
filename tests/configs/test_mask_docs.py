"""The examples of docs/masks.md build, and the page's statements about kinds, counts, units and pictures are true."""

import re

import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from pages import ROOT, missing_links, python_blocks, read_page, run_block
from PIL import Image

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.datasets.transforms import masking
from maskfeat_plugin.engine.ratio_schedules import SCHEDULES
from maskfeat_plugin.registry import HOOKS, MODELS, TRANSFORMS

TEXT = read_page("masks.md")
EXAMPLES = python_blocks(TEXT)
PICTURES = ("masks_image.png", "masks_video.png", "mask_ratio.png")


@pytest.mark.parametrize("section", EXAMPLES)
def test_example_builds(section):
    scope = run_block(EXAMPLES[section])
    built = []
    for hook in scope.get("custom_hooks", ()):
        built.append(HOOKS.build(hook))
    for mask in scope.get("masks", ()):
        built.append(TRANSFORMS.build(mask))
        assert built[-1]({})["mask"].shape == mask["token_grid"]
    if "train_pipeline" in scope:
        clips = any(t["type"] == "PackActionInputs" for t in scope["train_pipeline"])
        with DefaultScope.overwrite_default_scope("mmaction" if clips else "mmpretrain"):
            built.append(Compose(scope["train_pipeline"]))
        assert any(isinstance(t, masking.BaseMaskGenerator) for t in built[-1].transforms)
    assert built


def test_every_kind_and_every_schedule_is_on_the_page():
    rows = set(re.findall(r"^\|.*`maskfeat\.(\w+)`", TEXT, re.MULTILINE))
    kinds = {name for name in masking.__all__ if not name.startswith("Base")}
    assert rows == kinds == set(re.findall(r"type=\"maskfeat\.(\w+MaskGenerator)\"", TEXT))
    assert set(SCHEDULES) <= set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))


def test_counts_of_the_page():
    def masked(name, **settings):
        return int(
            TRANSFORMS.build(dict(type=f"maskfeat.{name}", token_grid=(8, 14, 14), **settings))({})["mask"].sum()
        )

    assert masked("CubeMaskGenerator", window_size=(8, 7, 7)) == 157 * 4 == 628
    assert masked("FrameMaskGenerator") == 3 * 14 * 14


@pytest.mark.parametrize("arch", ["maskfeat-small", "maskfeat-large"])
def test_mask_unit_of_the_page(arch):
    with torch.device("meta"):
        backbone = MODELS.build(dict(type="maskfeat.VisibleMViT", arch=arch))
    assert backbone.mask_unit == (1, 2, 2) and backbone.token_grid((16, 224, 224)) == (8, 14, 14)


def test_links_configs_and_pictures_of_the_page_are_there():
    assert not missing_links(TEXT)
    for path in re.findall(r"python ((?:tools|configs)/\S+)(?: (configs/\S+))?", TEXT):
        assert all((ROOT / part).is_file() for part in path if part), path
    for name in PICTURES:
        assert f"]({name})" in TEXT
        path = ROOT / "docs" / name
        assert path.stat().st_size < 150_000 and Image.open(path).width < 1000
