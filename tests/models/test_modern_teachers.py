"""Teachers of timm and transformers from local files: small random models of the real classes."""

import re

import pytest
import torch
import torch.nn.functional as F
from compared import backbones_of_timm
from mmengine.optim import build_optim_wrapper
from safetensors.torch import load_file, save_file

from maskfeat_plugin.checkpoints import CheckpointError
from maskfeat_plugin.registry import MODELS

SMALL = dict(embed_dim=48, depth=3, num_heads=3)
# Name in timm -> further settings, and the number of tokens before the grid
TIMM = {
    "vit_small_patch14_dinov2": (dict(img_size=70, dynamic_img_size=True), 1),
    "vit_small_patch14_reg4_dinov2": (dict(img_size=70, dynamic_img_size=True), 5),
    "vit_small_patch16_dinov3": (dict(dynamic_img_size=True), 5),
    "vit_base_patch16_clip_224": (dict(img_size=64, dynamic_img_size=True), 1),
    "vit_base_patch16_siglip_224": (dict(img_size=64, dynamic_img_size=True), 0),
}
SIZES = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96)
TEXT = dict(SIZES, vocab_size=20, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=2)
IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))  # 4 x 6 tokens of 8 x 8 pixels
MASK = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(1)) < 0.4


@pytest.fixture(scope="module", autouse=True)
def libraries():
    with backbones_of_timm():
        yield


def transformers_model(kind):
    """Return a small random model and the model that encodes images in it."""
    import transformers as hf

    torch.manual_seed(0)
    if kind == "dinov2":
        model = hf.Dinov2Model(hf.Dinov2Config(**SIZES, image_size=70, patch_size=14))
    elif kind == "dinov3":
        model = hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SIZES, num_register_tokens=4))
    elif kind == "clip":
        vision = dict(SIZES, image_size=64, patch_size=16)
        model = hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=vision))
    else:
        vision = dict(SIZES, image_size=64, patch_size=16)
        model = hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=vision))
    model.eval()
    return model, getattr(model, "vision_model", model)


def generator_of(teacher, **settings):
    generator = MODELS.build(dict(type="maskfeat.TeacherGenerator", teacher=teacher, patch_size=8, **settings))
    generator.init_weights()
    return generator


def resized(stride):
    return F.interpolate(IMAGES, (4 * stride, 6 * stride), mode="bicubic", antialias=True)


def expected(tokens):
    """Return the tokens of the grid at the masked places, with length 1."""
    return F.normalize(tokens[:, -24:], dim=-1)[MASK.flatten(1)]


@pytest.mark.parametrize("name", TIMM)
def test_a_teacher_of_timm(name, tmp_path):
    import timm

    settings, extra = TIMM[name]
    stride = int(re.search(r"patch(\d+)", name)[1])
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL, **settings).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    init_cfg = dict(
        type="Pretrained", checkpoint=str(tmp_path / "model.safetensors"), revise_keys=[("^", "timm_model.")]
    )
    teacher = dict(type="mmpretrain.TIMMBackbone", model_name=name, **SMALL, **settings, init_cfg=init_cfg)
    found = generator_of(teacher, stride=stride)(IMAGES, MASK)
    with torch.no_grad():
        tokens = model.forward_features(resized(stride))
    assert tokens.shape == (2, extra + 24, 48)
    torch.testing.assert_close(found, expected(tokens))


def test_several_layers_of_timm(tmp_path):
    import timm

    name, (settings, _) = next(iter(TIMM.items()))
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL, **settings).eval()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "model.pth"))
    init_cfg["revise_keys"] = [("^", "timm_model.model.")]
    teacher = dict(type="mmpretrain.TIMMBackbone", model_name=name, **SMALL, **settings, init_cfg=init_cfg)
    teacher.update(features_only=True, out_indices=(0, 2))
    found = {
        combine: generator_of(teacher, stride=14, layer=(0, 1), combine=combine, norm="none")(IMAGES, MASK)
        for combine in ("concat", "mean")
    }
    with torch.no_grad():
        maps = model.forward_intermediates(resized(14), indices=[0, 2], norm=False, intermediates_only=True)
    first, last = (x.flatten(2).mT[MASK.flatten(1)] for x in maps)
    assert not torch.allclose(first, last)
    torch.testing.assert_close(found["concat"], torch.cat([first, last], -1))
    torch.testing.assert_close(found["mean"], (first + last) / 2)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3", "clip", "siglip"])
def test_a_teacher_of_transformers(kind, tmp_path):
    model, vision = transformers_model(kind)
    model.save_pretrained(tmp_path)
    stride = 14 if kind == "dinov2" else 16
    options = dict(interpolate_pos_encoding=True) if kind in ("clip", "siglip") else {}
    teacher = dict(type="maskfeat.TransformersBackbone", folder=str(tmp_path))
    found = generator_of(teacher, stride=stride)(IMAGES, MASK)
    layers = generator_of(teacher, stride=stride, layer=(0, -2, -1))(IMAGES, MASK)
    with torch.no_grad():
        output = vision(resized(stride), output_hidden_states=True, **options)
    torch.testing.assert_close(found, expected(output.last_hidden_state))
    assert len(output.hidden_states) == 4
    each = [output.hidden_states[1], output.hidden_states[2], output.last_hidden_state]
    torch.testing.assert_close(layers, torch.cat([expected(tokens) for tokens in each], -1))


def test_a_folder_that_is_not_complete(tmp_path):
    teacher = dict(type="maskfeat.TransformersBackbone", folder=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"has no config.json. Give the folder of a downloaded model"):
        generator_of(teacher)
    model, _ = transformers_model("clip")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for part in ("text_model", "vision_model"):  # the text encoder may be incomplete, the vision part must not be
        name = next(key for key in weights if key.startswith(part) and "mlp" in key)
        weights.pop(name)
        save_file(weights, tmp_path / "model.safetensors", metadata=dict(format="pt"))
        if part == "text_model":
            assert generator_of(teacher, stride=16)(IMAGES, MASK).isfinite().all()
        else:
            with pytest.raises(CheckpointError, match=f"lacks 1 parameters .*{name.removeprefix('vision_model.')}"):
                generator_of(teacher)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="has no weights in the format safetensors"):
        generator_of(teacher)


@pytest.mark.parametrize("kind", ["cosine", "smooth_l1"])
def test_a_step_with_two_layers(kind, tmp_path):
    transformers_model("dinov2")[0].save_pretrained(tmp_path)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor"),
            backbone=dict(
                type="maskfeat.MaskedViT",
                arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
                img_size=(32, 48),
                patch_size=8,
            ),
            target_generator=dict(
                type="maskfeat.TeacherGenerator",
                teacher=dict(type="maskfeat.TransformersBackbone", folder=str(tmp_path)),
                stride=14,
                layer=(1, -1),
                norm="layer",
            ),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=96),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind=kind)),
        )
    )
    model.init_weights()
    teacher = model.target_generator.teacher.network
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type="AdamW", lr=1e-2)))
    model.train()
    losses = []
    for _ in range(8):
        loss, log = model.parse_losses(model(IMAGES, mask=MASK, mode="loss"))
        wrapper.update_params(loss)
        losses.append(log["loss"].item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training and not any("teacher" in name for name in model.state_dict())


VIT_ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
VIT = dict(type="mmpretrain.VisionTransformer", arch=VIT_ARCH, img_size=32, patch_size=8)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="combine='sum' is unknown; choose 'concat' or 'mean'"):
        generator_of(VIT, combine="sum")
    with pytest.raises(ValueError, match="stride must be positive, got 0"):
        generator_of(VIT, stride=0)
    with pytest.raises(ValueError, match="layer must name at least one output"):
        generator_of(VIT, layer=())
    clips = dict(type="mmaction.MViT", arch="tiny", temporal_size=4, spatial_size=32)
    with pytest.raises(ValueError, match="stride resizes images, but input_type='clip'"):
        generator_of(clips, input_type="clip", stride=8)
    with pytest.raises(ValueError, match=r"teacher gives 7 tokens for a grid of 4 x 6; set stride to the patch size"):
        generator_of(dict(VIT, out_type="raw"), stride=4)(IMAGES, MASK)
    resnet = dict(type="mmpretrain.ResNet", depth=18, base_channels=8, out_indices=(0, 1))
    with pytest.raises(ValueError, match=r"have \[8, 16\] channels and cannot be averaged; set combine='concat'"):
        generator_of(resnet, layer=(0, 1), combine="mean")(IMAGES, MASK)
