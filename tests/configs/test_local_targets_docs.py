"""The examples of docs/local_targets.md build and take a step, and its table of MViT-S and its links are true."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from pages import ROOT, missing_links, python_blocks, read_page, run_block

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.models.utils import masked_places
from maskfeat_plugin.registry import MODELS

TEXT = read_page("local_targets.md")
EXAMPLES = python_blocks(TEXT)
CONFIGS = ROOT / "configs"
MVIT_S = CONFIGS / "efficient" / "maskfeat-local_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"


def test_the_model_of_several_layers_takes_a_step():
    parts = run_block(EXAMPLES["HOG at several layers"])
    parts["backbone"].update(img_size=64)
    names = ("backbone", "target_generator", "neck", "head")
    with torch.device("meta"):
        model = MODELS.build(dict(type="maskfeat.MaskFeat", **{name: parts[name] for name in names}))
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 2:] = True
    index = masked_places(mask).index
    inputs = torch.empty(1, 3, 64, 64, device="meta")
    losses = model(inputs, mask=mask.to("meta"), masked_index=index.to("meta"), mode="loss")
    assert {f"loss_{name}" for name in parts["head"]["heads"]} < losses.keys()
    full = Config.fromfile(CONFIGS / "efficient" / "maskfeat-local_vit-base-p16_8xb256-amp-coslr-300e_in1k.py").model
    assert parts["neck"] == full.neck.to_dict() and parts["backbone"]["early_layers"] == full.backbone.early_layers


def test_the_keys_of_smaller_images_are_those_of_the_config():
    parts = run_block(EXAMPLES["Smaller images"])
    cfg = Config.fromfile(CONFIGS / "efficient" / "maskfeat-128px_vit-base-p16_8xb256-amp-coslr-300e_in1k.py")
    assert parts["model"]["backbone"]["img_size"] == cfg.model.backbone.img_size
    assert parts["train_pipeline"] == [step.to_dict() for step in cfg.train_dataloader.dataset.pipeline]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        Compose(parts["train_pipeline"])


def test_the_table_of_mvit_is_true():
    row = r"^\| block (\d+).*? \| (\d+) x (\d+) x \d+ \| (\d+) \| (\d+) \| (\d+) \| (\d+) "
    rows = re.findall(row, TEXT, re.MULTILINE)
    cfg = Config.fromfile(MVIT_S)
    with torch.device("meta"):
        backbone = MODELS.build(cfg.model.backbone)
        found = []
        for block in backbone.blocks:
            block.register_forward_hook(lambda module, args, out: found.append(out))
        backbone(torch.empty(1, 3, 16, 224, 224), torch.empty(1, 8, 14, 14, dtype=torch.bool))
    assert [int(row[0]) for row in rows] == [*cfg.model.backbone.early_layers, 15]
    targets, necks = cfg.model.target_generator.targets, cfg.model.neck.necks
    for row, name in zip(rows, targets, strict=True):
        block, time, side, below, channels, in_channels, cell = map(int, row)
        tokens, grid = found[block]
        assert tuple(grid) == (time, side, side) and tokens.shape[-1] == channels
        assert below == (side // 14) ** 2 and in_channels == below * channels == necks[name].in_channels
        assert cell == targets[name].cell_size


def test_links_and_names_of_the_page_exist():
    assert not missing_links(TEXT)
    patterns = set(re.findall(r"`((?:maskfeat-|vit-)[-\w]*_?\*)`", TEXT))
    assert len(patterns) > 4
    for pattern in patterns:
        assert any(CONFIGS.glob(f"*/{pattern}.py")), pattern


@pytest.mark.parametrize("name", ["MultiLayerMaskedViT", "MultiLayerMaskedMViT", "MultiLayerNeck"])
def test_every_component_is_on_the_page(name):
    assert f"maskfeat.{name}" in TEXT and name in MODELS.module_dict
