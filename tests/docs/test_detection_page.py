"""The configs of docs/detection.md for mmdet are built and trained for a step; the channels of the page are right."""

import re

import pytest
import torch
from doc_blocks import ROOT, code_blocks, file_name
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from maskfeat_plugin.registry import MODELS

PAGES = [ROOT / "docs" / name for name in ("detection.md", "tutorials/one_encoder.md")]
CONFIGS = {file_name(block): block.text for block in code_blocks(PAGES[0]) if file_name(block)}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_faster_rcnn(name, tmp_path):
    (tmp_path / name).write_text(CONFIGS[name])
    cfg = Config.fromfile(tmp_path / name)
    init_default_scope("mmdet")
    assert cfg.model.backbone.pop("init_cfg").type == "maskfeat.Pretrained"  # the authors' file is not here
    model = MODELS.build(cfg.model)
    instances = InstanceData(bboxes=torch.tensor([[8.0, 8.0, 48.0, 40.0]]), labels=torch.tensor([3]))
    sample = DetDataSample(gt_instances=instances)
    sample.set_metainfo(dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
    picture = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    wrapper = build_optim_wrapper(model, dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1)))
    model.train()
    weights = model.backbone.patch_embed.projection.weight
    before = weights.detach().clone()
    losses = model.train_step(dict(inputs=[picture], data_samples=[sample]), wrapper)
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox"} <= losses.keys()
    assert all(value.isfinite().all() for value in losses.values())
    assert weights.isfinite().all() and not torch.equal(weights, before)


@pytest.mark.parametrize("arch", ["small", "large"])
def test_channels_of_the_maps(arch):
    with torch.device("meta"):
        backbone = MODELS.build(dict(type="maskfeat.ImageMViT", arch=arch))
        channels = [featmap.shape[1] for featmap in backbone(torch.empty(1, 3, 64, 64))]
    assert channels == dict(small=[192, 384, 768, 768], large=[288, 576, 1152, 1152])[arch]
    for page in PAGES:
        assert " ".join(map(str, channels)) in " ".join(re.findall(r"\d+", page.read_text()))
