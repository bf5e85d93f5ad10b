"""Backbones of MaskFeat and VisibleMaskFeat: the interface, users' backbones, one error for all others."""

import pytest
import torch
from mmpretrain.models import VisionTransformer
from torch import nn

from maskfeat_plugin.models import MaskedBackbone, VisibleBackbone
from maskfeat_plugin.models.backbones import TokenGridBackbone
from maskfeat_plugin.registry import MODELS

VIT = dict(arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8)
MVIT = dict(
    arch=dict(embed_dims=16, num_layers=2, num_heads=1, downscale_indices=[1], dim_mul_indices=[1]),
    temporal_size=4,
    spatial_size=32,
    adaptive_kv_stride=(1, 2, 2),
)
SWIN = dict(type="mmpretrain.SwinTransformer", arch="tiny", img_size=64)
MASKABLE = dict(
    type="maskfeat.MaskableBackbone", mask_stride=8, backbone=dict(type="mmpretrain.BEiTPretrainViT", **VIT)
)
DECODER = dict(type="maskfeat.MAEDecoder", in_channels=16, embed_dims=12, num_layers=1, num_heads=2)
MASK = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).argsort(-1) < 2  # 8 of 16


class Patches(nn.Module):
    """A user's backbone without any class of this package: the mean of each patch."""

    def __init__(self, init_cfg=None):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)

    def token_grid(self, input_size):
        return (1, input_size[-2] // 8, input_size[-1] // 8)

    def forward(self, x, mask=None):
        x = self.embed(x).flatten(2).mT
        return x if mask is None else x * ~mask.flatten(1)[..., None]


class PatchesOfMasked(Patches):
    """The same backbone, which computes only the masked tokens."""

    def masked_tokens(self, x, mask):
        self.asked = True
        return self.embed(x).flatten(2).mT[mask.flatten(1)] * 0


class PatchesWithClassToken(Patches):
    def forward(self, x, mask=None):
        x = super().forward(x, mask)
        return torch.cat((x[:, :1], x), dim=1)


class PatchesWithoutGrid(Patches):
    token_grid = None


class VisiblePatches(Patches):
    def forward(self, x, mask=None):
        x = super().forward(x)
        return x if mask is None else x[~mask.flatten(1)].view(len(x), -1, 16)


def model(backbone, kind="MaskFeat"):
    torch.manual_seed(0)
    visible = dict(decoder=DECODER) if kind == "VisibleMaskFeat" else {}
    return MODELS.build(
        dict(
            type=f"maskfeat.{kind}",
            backbone=backbone,
            target_generator=dict(type="maskfeat.HOGGenerator", cell_size=8),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=12 if visible else 16, out_channels=27),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
            **visible,
        )
    )


def ours(name):
    settings = MVIT if name in ("MViT", "MaskedMViT", "VisibleMViT") else VIT
    return MODELS.build(dict(type=f"maskfeat.{name}", **settings))


def test_interfaces():
    masked = [*map(ours, ("MaskedViT", "MaskedMViT", "MIMViT")), MODELS.build(MASKABLE), PatchesOfMasked()]
    visible = [*map(ours, ("VisibleViT", "VisibleMViT"))]
    assert all(isinstance(b, MaskedBackbone) and not isinstance(b, VisibleBackbone) for b in masked)
    assert all(isinstance(b, VisibleBackbone) and not isinstance(b, MaskedBackbone) for b in visible)
    assert all(isinstance(b, TokenGridBackbone) for b in (*masked, *visible, ours("MViT"), Patches()))
    assert not isinstance(ours("VisionTransformer"), TokenGridBackbone)


def test_the_visible_vit_has_the_parameters_of_mmpretrains():
    names = list(VisionTransformer(**VIT).state_dict())
    assert list(ours("VisibleViT").state_dict()) == names
    assert list(ours("MaskedViT").state_dict()) == [*names[:2], "mask_token", *names[2:]]


@pytest.mark.parametrize("name", ["VisibleViT", "VisibleMViT"])
def test_visible_tokens_are_those_of_the_forward(name):
    backbone = ours(name)
    backbone.eval()  # eval() of mmpretrain's backbones returns None
    x = torch.randn(2, 3, 32, 32) if name == "VisibleViT" else torch.randn(2, 3, 4, 32, 32)
    mask = torch.zeros(2, *backbone.token_grid(x.shape[2:]), dtype=torch.bool)
    mask[:, :, :2] = True
    with torch.no_grad():
        tokens = backbone.visible_tokens(x, mask)
        assert torch.equal(tokens, backbone(x, mask))
    assert tokens.shape[1] == int((~mask[0]).sum())


def test_masked_tokens_of_a_maskable_backbone():
    backbone = MODELS.build(MASKABLE).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.masked_tokens(x, MASK), backbone(x, MASK)[MASK.flatten(1)])


@pytest.mark.parametrize("backbone", [Patches, PatchesOfMasked])
def test_backbones_of_users_need_no_base_class(backbone):
    trained = model(backbone())
    losses = trained.loss(torch.randn(2, 3, 32, 32), mask=MASK)
    losses["loss"].backward()
    assert losses["loss"] > 0 and trained.neck.fc.bias.grad.any()
    assert getattr(trained.backbone, "asked", False) == (backbone is PatchesOfMasked)


def test_visible_backbones_of_users_need_no_base_class():
    trained = model(VisiblePatches(), "VisibleMaskFeat")
    trained.loss(torch.randn(2, 3, 32, 32), mask=MASK)["loss"].backward()
    assert trained.backbone.embed.weight.grad.any()


def test_a_class_token_of_a_users_backbone_is_named():
    with pytest.raises(ValueError, match=r"backbone: .*\(2, 17, 16\) for 16 tokens\. Return all tokens.*without class"):
        model(PatchesWithClassToken()).loss(torch.randn(2, 3, 32, 32), mask=MASK)


@pytest.mark.parametrize(
    "kind, backbone, message",
    [
        ("MaskFeat", dict(type="maskfeat.VisibleViT", **VIT), "Use it in maskfeat.VisibleMaskFeat, or use maskfeat.Ma"),
        ("MaskFeat", dict(type="maskfeat.VisibleMViT", **MVIT), "VisibleMaskFeat, or use maskfeat.MaskedMViT instead"),
        ("MaskFeat", dict(type="mmpretrain.MaskFeatViT", **VIT), "no token_grid.* Put it into maskfeat.MaskableBackb"),
        ("MaskFeat", dict(type="mmpretrain.BEiTPretrainViT", **VIT), "Put it into maskfeat.MaskableBackbone"),
        ("MaskFeat", dict(type="mmpretrain.VisionTransformer", **VIT), "no mask. Use maskfeat.MaskedViT instead"),
        ("MaskFeat", dict(type="maskfeat.VisionTransformer", **VIT), "no mask. Use maskfeat.MaskedViT instead"),
        ("MaskFeat", dict(type="maskfeat.MViT", **MVIT), "no mask. Use maskfeat.MaskedMViT instead"),
        ("MaskFeat", SWIN, "no mask. Use maskfeat.MaskedViT or maskfeat.MaskedMViT"),
        ("MaskFeat", PatchesWithoutGrid(), r"own with token_grid\(input_size\) and forward\(inputs, mask\)"),
        (
            "VisibleMaskFeat",
            dict(type="maskfeat.MaskedViT", **VIT),
            "Use it in maskfeat.MaskFeat, or use maskfeat.VisibleViT instead",
        ),
        ("VisibleMaskFeat", dict(type="maskfeat.MaskedMViT", **MVIT), "MaskFeat, or use maskfeat.VisibleMViT instead"),
        ("VisibleMaskFeat", MASKABLE, "in maskfeat.MaskFeat, or use maskfeat.VisibleViT or maskfeat.VisibleMViT"),
        ("VisibleMaskFeat", dict(type="mmpretrain.MaskFeatViT", **VIT), r"\. Use maskfeat.VisibleViT instead"),
        ("VisibleMaskFeat", dict(type="mmpretrain.VisionTransformer", **VIT), "no mask. Use maskfeat.VisibleViT inst"),
    ],
)
def test_a_backbone_that_does_not_fit_is_named_at_construction(kind, backbone, message):
    with pytest.raises(ValueError, match=f"backbone: .* does not fit maskfeat.{kind}: .*{message}"):
        model(backbone, kind)


def test_a_backbone_without_mask_is_not_maskable():
    with pytest.raises(ValueError, match="SwinTransformer takes no mask. Use .*SimMIMSwinTransformer, or maskfeat.Mas"):
        MODELS.build(dict(type="maskfeat.MaskableBackbone", mask_stride=4, backbone=SWIN))
