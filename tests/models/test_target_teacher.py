"""TeacherGenerator and SelfTeacherGenerator: the teacher's features on the token grid, and which network is trained."""

import copy
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from maskfeat_plugin.registry import MODELS

VIT_ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
VIT = dict(type="mmpretrain.VisionTransformer", arch=VIT_ARCH, img_size=32, patch_size=8, out_type="featmap")
RESNET = dict(type="mmpretrain.ResNet", depth=18, base_channels=8, out_indices=(0, 1, 2, 3))
MVIT_ARCH = dict(embed_dims=16, num_layers=3, num_heads=1, downscale_indices=[1], dim_mul_indices=[1])
MVIT = dict(type="mmaction.MViT", arch=MVIT_ARCH, temporal_size=4, spatial_size=32, out_scales=[0, 1])
SHAPE = dict(image=(2, 3, 32, 32), clip=(2, 3, 4, 32, 32))
GRID = dict(image=(1, 4, 4), clip=(2, 4, 4))


def build(teacher, **kwargs):
    torch.manual_seed(0)
    generator = MODELS.build(dict(type="maskfeat.TeacherGenerator", teacher=dict(teacher), patch_size=8, **kwargs))
    generator.init_weights()
    return generator


def randn(kind, seed=0):
    return torch.randn(SHAPE[kind], generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15, deadline=None)
@given(
    case=st.sampled_from(
        [("image", VIT, "image"), ("image", RESNET, "image"), ("clip", VIT, "image"), ("clip", MVIT, "clip")]
    ),
    norm=st.sampled_from(["l2", "layer", "none"]),
    seed=st.integers(0, 2**16),
)
def test_masked_tokens_equal_the_same_tokens_of_the_whole(case, norm, seed):
    kind, teacher, input_type = case
    generator = build(teacher, input_type=input_type, norm=norm)
    inputs = randn(kind, seed)
    mask = torch.rand(2, *GRID[kind], generator=torch.Generator().manual_seed(seed)) < 0.3
    everything = generator(inputs)
    assert everything.shape[:2] == (2, mask[0].numel())
    found = generator(inputs, mask)
    torch.testing.assert_close(found, everything[mask.flatten(1)], atol=1e-4, rtol=1e-3)
    if norm == "l2":
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(found)))
    if norm == "layer" and len(found):
        assert found.mean(-1).abs().max() < 1e-4


@pytest.mark.parametrize("scope", ["mmpretrain", "mmaction", "mmdet"])
def test_features_are_the_teachers_own(scope):
    images = randn("image")
    with DefaultScope.overwrite_default_scope(scope):
        vit = build(VIT, norm="none")
    own = vit.teacher.network(images)[-1]
    torch.testing.assert_close(vit(images), own.flatten(2).mT)


def test_layers_and_grids():
    """A ResNet's layer on the token grid is used unchanged, a finer one is averaged, a coarser one interpolated."""
    images = F.interpolate(randn("image"), (64, 64), mode="bilinear")
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    resnet = build(RESNET, norm="none")
    with torch.no_grad():
        maps = resnet.teacher.network(images)
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    for layer, own in enumerate(maps):
        if layer < 3:
            expected = F.adaptive_avg_pool2d(own, 4)
        else:
            expected = F.interpolate(own, (4, 4), mode="bilinear")
        found = build(RESNET, norm="none", layer=layer)(images, mask)
        torch.testing.assert_close(found, expected.flatten(2).mT.flatten(0, 1))
    with pytest.raises(ValueError, match=r"outputs of 4 layers, layer=4 is none of them; set it to -4"):
        build(RESNET, layer=4)(images, mask)


def test_tokens_with_a_class_token_are_a_square_grid():
    images = randn("image")
    raw = build(dict(VIT, out_type="raw"), norm="none")
    assert raw.teacher.network(images)[-1].shape == (2, 17, 16)
    torch.testing.assert_close(raw(images), build(VIT, norm="none")(images))


class ChannelsLast(torch.nn.Module):
    """A backbone like timm's Swin, whose map is (N, h, w, C)."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, x):
        return self.embed(x).movedim(1, -1)


def test_a_map_of_channels_last_is_seen():
    generator = build(dict(type=ChannelsLast), norm="none")
    images = randn("image")
    own = generator.teacher.network(images)
    torch.testing.assert_close(generator(images), own.flatten(1, 2))


def student(teacher, optimizer="maskfeat.GroupedOptimWrapperConstructor", **kwargs):
    generator = dict(type="maskfeat.TeacherGenerator", teacher=teacher, **kwargs) if teacher else kwargs
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor"),
            backbone=dict(type="maskfeat.MaskedViT", arch=VIT_ARCH, img_size=32, patch_size=8),
            target_generator=generator,
            neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=16),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="cosine")),
        )
    )
    model.init_weights()
    cfg = dict(optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.5), constructor=optimizer)
    return model, build_optim_wrapper(model, dict(cfg, paramwise_cfg=dict(flat_decay_mult=0.0)))


def step(model, optim, seed=0):
    model.train()
    mask = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) < 0.5
    loss, log = model.parse_losses(model(randn("image", seed), mask=mask, mode="loss"))
    optim.update_params(loss)
    return log["loss"].item()


def test_training_leaves_the_teacher_alone():
    model, optim = student(dict(VIT))
    teacher = model.target_generator.teacher.network
    before = copy.deepcopy(teacher.state_dict())
    step(model, optim)
    assert not teacher.training
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    own = {id(p) for p in teacher.parameters()}
    assert not own & {id(p) for group in optim.optimizer.param_groups for p in group["params"]}
    assert not any("teacher" in name for name in model.state_dict())
    assert not any(p.requires_grad for p in teacher.parameters())
    clone = copy.deepcopy(model)  # as hooks for moving averages do
    assert clone.target_generator.teacher.network is not teacher
    torch.testing.assert_close(clone.target_generator(randn("image")), model.target_generator(randn("image")))


def test_autocast_gives_nearly_the_same_features():
    generator = build(VIT)
    images = randn("image").requires_grad_()
    full = generator(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = generator(images)
    assert reduced.dtype == torch.float32 and not reduced.requires_grad
    assert not torch.equal(reduced, full)  # so the teacher did run in reduced precision
    torch.testing.assert_close(reduced, full, atol=3e-2, rtol=0)


def test_inputs_are_normalised_as_the_teacher_wants():
    model, _ = student(dict(VIT), mean=[127.5] * 3, std=[50.0, 60.0, 70.0])
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = model.target_generator(model.data_preprocessor(dict(inputs=pixels))["inputs"], torch.ones(2, 1, 4, 4))
    wanted = (pixels - 127.5) / torch.tensor([50.0, 60.0, 70.0]).view(3, 1, 1)
    with torch.no_grad():
        own = model.target_generator.teacher.network(wanted)[-1]
    torch.testing.assert_close(found, F.normalize(own.flatten(2).mT, dim=-1).flatten(0, 1), atol=1e-4, rtol=1e-4)


def test_renamed_weights(tmp_path):
    """Patterns in the config rename the weights of other projects, such as DINO's."""
    torch.manual_seed(1)
    source = MODELS.build(dict(VIT))
    source.init_weights()
    renamed = {k.replace("layers.", "blocks.", 1).replace(".ln1", ".norm1"): v for k, v in source.state_dict().items()}
    torch.save(renamed, tmp_path / "other.pth")
    patterns = [(r"^blocks\.", "layers."), (r"\.norm1\.", ".ln1.")]
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "other.pth"), revise_keys=patterns)
    generator = build(dict(VIT, init_cfg=init_cfg))
    for name, value in source.state_dict().items():
        assert torch.equal(generator.teacher.network.state_dict()[name], value), name


def test_bad_config_is_named():
    with pytest.raises(ValueError, match="norm='batch' is unknown"):
        build(VIT, norm="batch")
    with pytest.raises(ValueError, match="input_type='video' is unknown"):
        build(VIT, input_type="video")
    with pytest.raises(ValueError, match=r"has no grid to map onto the token grid; .*out_type='featmap'"):
        build(dict(VIT, out_type="cls_token"))(randn("image"))
    with pytest.raises(ValueError, match=r"\(VisionTransformer\) takes images, .*set input_type='image'"):
        build(VIT, input_type="clip")
    with pytest.raises(ValueError, match=r"\(MViT\) takes clips, .*set input_type='clip'"):
        build(MVIT)
    with pytest.raises(ValueError, match="the inputs are images"):
        build(MVIT, input_type="clip")(randn("image"))


def test_timm_is_asked_for_by_name():
    try:
        version("timm")  # not an import, because tests of converted checkpoints import timm from another folder
    except PackageNotFoundError:
        with pytest.raises(ImportError, match=r"teacher.type='mmpretrain.TIMMBackbone' needs timm.*pip install timm"):
            build(dict(type="mmpretrain.TIMMBackbone", model_name="vit_tiny_patch16_224"))
    else:
        teacher = build(dict(type="mmpretrain.TIMMBackbone", model_name="resnet10t"), norm="none")
        assert teacher(randn("image")).shape == (2, 16, 512)


def self_student(**kwargs):
    return student(None, type="maskfeat.SelfTeacherGenerator", patch_size=8, **kwargs)


def values(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_the_self_teacher_is_the_moving_average():
    model, optim = self_student(momentum=0.9)
    teacher = model.target_generator.teacher.network
    expected = values(model.backbone)
    for seed in range(3):
        student_before = values(model.backbone)
        expected = student_before if seed == 0 else 0.9 * expected + 0.1 * student_before
        step(model, optim, seed)
        torch.testing.assert_close(values(teacher.module), expected)
    assert not torch.allclose(values(teacher.module), values(model.backbone))
    model.eval()
    model.target_generator(randn("image"))
    torch.testing.assert_close(values(teacher.module), expected)  # it changes only in training


@pytest.mark.parametrize("num_layers", [1, 2])
def test_self_teachers_features_by_hand(num_layers):
    model, _ = self_student(num_layers=num_layers)
    model.eval()
    images = randn("image")
    backbone = model.backbone
    kept = []
    with torch.no_grad():
        x = backbone.patch_embed(images)[0]
        x = torch.cat((backbone.cls_token.expand(2, -1, -1), x), 1) + backbone.pos_embed
        for layer in backbone.layers:
            x = layer(x)
            kept.append(F.layer_norm(x[:, 1:], (16,)))
    expected = torch.stack(kept[-num_layers:]).mean(0)
    mask = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    torch.testing.assert_close(model.target_generator(images, mask), expected[mask.flatten(1)], atol=1e-5, rtol=1e-4)


def test_the_self_teacher_goes_on_from_a_checkpoint():
    model, optim = self_student()
    for seed in range(2):
        step(model, optim, seed)
    state = copy.deepcopy(dict(model=model.state_dict(), optim=optim.state_dict()))
    assert any(name.startswith("target_generator.teacher.module.") for name in state["model"])
    resumed, resumed_optim = self_student()
    resumed.load_state_dict(state["model"])
    resumed_optim.load_state_dict(state["optim"])
    for seed in range(2, 4):
        assert step(resumed, resumed_optim, seed) == step(model, optim, seed)
    assert torch.equal(values(resumed), values(model))
    parameters = {id(p) for p in model.target_generator.teacher.network.parameters()}
    assert not parameters & {id(p) for p in model.parameters()}


def test_bad_self_teachers_are_named():
    with pytest.raises(ValueError, match="momentum must be between 0 and 1"):
        self_student(momentum=1)
    with pytest.raises(ValueError, match="num_layers must be positive"):
        self_student(num_layers=0)
    with pytest.raises(ValueError, match=r"num_layers=4, the model's backbone \(MaskedViT\) has 3 blocks"):
        self_student(num_layers=4)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedMViT", arch=MVIT_ARCH, temporal_size=4, spatial_size=32),
            target_generator=dict(type="maskfeat.SelfTeacherGenerator", num_layers=3),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=32, out_channels=32),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        )
    )
    with pytest.raises(ValueError, match="cannot be averaged on 32 tokens; set num_layers"):
        model(randn("clip"), mask=torch.ones(2, 2, 4, 4, dtype=torch.bool), mode="loss")
