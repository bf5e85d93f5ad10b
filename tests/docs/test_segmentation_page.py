"""The configs of docs/segmentation.md for mmseg are built and trained for a step."""

import pytest
import torch
from doc_blocks import ROOT, code_blocks, file_name
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from maskfeat_plugin.registry import MODELS

CONFIGS = {file_name(block): block.text for block in code_blocks(ROOT / "docs" / "segmentation.md") if file_name(block)}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_of_upernet(name, frozen, tmp_path):
    """Train for a step on two images. With the page's setting for a frozen backbone, only the head changes."""
    from mmseg.structures import SegDataSample

    (tmp_path / name).write_text(CONFIGS[name])
    cfg = Config.fromfile(tmp_path / name)
    init_default_scope("mmseg")
    assert cfg.model.backbone.pop("init_cfg").type == "maskfeat.Pretrained"  # the authors' file is not here
    cfg.model.data_preprocessor.size = (64, 64)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))  # as the runner does for one process
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 150, (2, 1, 64, 64), generator=generator)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(img_shape=(64, 64))) for label in labels]
    pictures = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    optim = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, weight_decay=0.1))
    if frozen:
        optim["paramwise_cfg"] = dict(custom_keys=dict(backbone=dict(lr_mult=0.0, decay_mult=0.0)))
    wrapper = build_optim_wrapper(model, optim)
    model.train()
    weights = model.backbone.patch_embed.projection.weight, model.decode_head.conv_seg.weight
    before = [weight.detach().clone() for weight in weights]
    losses = model.train_step(dict(inputs=list(pictures), data_samples=samples), wrapper)
    assert {"decode.loss_ce", "aux.loss_ce"} <= losses.keys()
    assert all(value.isfinite().all() for value in losses.values())
    assert [torch.equal(weight, old) for weight, old in zip(weights, before, strict=True)] == [frozen, False]


def test_the_page_has_both_backbones():
    assert list(CONFIGS) == ["upernet_mvit.py", "upernet_vit.py"]
