"""Continued pre-training: weights of ImageNet and Kinetics models go into the masked backbones, which then train."""

import math

import pytest
import torch
from compared import importable
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from small_models import MVIT, VIT, build, pretraining_state, randomised

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.checkpoints import convert, from_state_dict
from maskfeat_plugin.registry import MODELS

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLIPS = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))


def of_timm(classes=5):
    """A ViT of timm with its classifier."""
    with importable():
        from timm.models import VisionTransformer

        sizes = dict(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, mlp_ratio=2)
        torch.manual_seed(0)
        return VisionTransformer(**sizes, num_classes=classes).state_dict()


def of_the_authors(family):
    return convert(from_state_dict(pretraining_state(family)), "slowfast").state


def of_a_recognizer():
    """A fine-tuned MViT, which has one more spatial stride than the masked one, with its classifier."""
    torch.manual_seed(0)
    backbone = build("maskfeat.MViT", arch={**MVIT, "downscale_indices": [1, 2, 3]})
    backbone.init_weights()
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    return {**state, "cls_head.fc_cls.weight": torch.zeros(5, 32), "cls_head.fc_cls.bias": torch.zeros(5)}


CASES = {
    "timm": ("vit", of_timm),
    "authors' ViT": ("vit", lambda: of_the_authors("vit")),
    "authors' MViT": ("mvit", lambda: of_the_authors("mvit")),
    "fine-tuned MViT": ("mvit", of_a_recognizer),
}


def model_of(family, checkpoint):
    vit = family == "vit"
    if vit:
        backbone = dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8)
    else:
        backbone = dict(type="maskfeat.MaskedMViT", arch=MVIT, temporal_size=4, spatial_size=64)
        backbone["dim_mul_in_attention"] = False
    stride = 8 if vit else 16
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor"),
            backbone=backbone,
            target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=stride // 2),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=16 if vit else 32, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
            init_cfg=dict(type="maskfeat.Pretrained", checkpoint=str(checkpoint)),
        )
    )
    return model


@pytest.mark.parametrize("case", CASES)
def test_all_of_the_blocks_are_loaded_and_a_step_is_taken(case, tmp_path):
    family, make = CASES[case]
    state = make()
    torch.save(dict(model_state=state) if "authors" in case else dict(state_dict=state), tmp_path / "weights.pyth")
    model = model_of(family, tmp_path / "weights.pyth")
    randomised(model, seed=7)
    random = {name: value.clone() for name, value in model.named_parameters()}
    model.init_weights()
    # parameters that the file lacks or that have another place, see docs/checkpoints.md
    new = ("mask_token", *(("norm2.",) if case == "fine-tuned MViT" else ()))
    for name, value in model.named_parameters():
        assert not torch.equal(value, random[name]), name
    theirs = from_state_dict(state).state
    loaded = [name for name in random if name.startswith("backbone.") and not any(part in name for part in new)]
    own = model.state_dict()
    assert len(loaded) > 30
    # the relative positions of another grid are resized; all others are the same
    same = [name for name in loaded if name in theirs and own[name].shape == theirs[name].shape]
    assert len([name for name in loaded if ".rel_pos" not in name]) <= len(same)
    assert all(torch.equal(own[name], theirs[name]) for name in same)

    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type="AdamW", lr=1e-4)))
    model.train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    grid = (1, 4, 4) if family == "vit" else (2, 4, 4)
    mask = torch.rand(2, *grid, generator=torch.Generator().manual_seed(0)) < 0.4
    loss, _ = model.parse_losses(model(IMAGES if family == "vit" else CLIPS, mask=mask, mode="loss"))
    wrapper.update_params(loss)
    assert math.isfinite(loss.item())
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) > 0.8 * len(before)


@pytest.mark.parametrize(
    "usual", ["vit-base-p16_8xb256-amp-coslr-300e_in1k", "mvit-small-16x4_16xb32-amp-coslr-300e_k400"]
)
def test_the_configs_have_the_usual_rate(usual):
    folder = configs_folder() / "pretrain"
    first = Config.fromfile(folder / f"maskfeat_{usual}.py")
    second = Config.fromfile(
        folder / f"maskfeat-continued_{usual.replace('300e', '100e').rpartition('_')[0]}_folder.py"
    )
    rate, batch = second.optim_wrapper.optimizer.lr, second.auto_scale_lr.base_batch_size
    assert rate == pytest.approx(first.optim_wrapper.optimizer.lr)
    assert batch == first.auto_scale_lr.base_batch_size
    assert second.model.init_cfg.type == "maskfeat.Pretrained"
    assert second.param_scheduler[-1].end == second.train_cfg.max_epochs == 100
