"""ViTs of timm, MAE, DeiT, DINO, DINOv2 and torchvision: features and logits are equal, or the file is refused."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from small_models import VIT, build, randomised
from timm_names import DEPTH, WIDTH, TimmViT
from torchvision.models import VisionTransformer

from maskfeat_plugin.checkpoints import CheckpointError, convert, from_state_dict, load_into, read_checkpoint

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def torchvision_vit():
    return VisionTransformer(32, 8, DEPTH, 2, WIDTH, 2 * WIDTH, num_classes=5)


def backbone_of(**options):
    model = build("mmpretrain.VisionTransformer", **options)
    model.eval()
    return model


def moderate(model):
    """Draw random weights of a size that keeps the attention soft."""
    randomised(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    return model.eval()


def classifier(path, pooled=False):
    backbone = dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32, patch_size=8)
    backbone |= dict(out_type="avg_featmap", final_norm=False) if pooled else dict(out_type="cls_token")
    cfg = dict(
        type="mmpretrain.ImageClassifier",
        backbone=backbone,
        head=dict(type="mmpretrain.LinearClsHead", num_classes=5, in_channels=WIDTH),
        init_cfg=dict(type="maskfeat.Pretrained", checkpoint=str(path)),
    )
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


def decoder(state):
    """Add the other parts of MAE's pre-training."""
    more = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 17, 8)}
    for part in ("decoder_embed", "decoder_norm", "decoder_pred", "decoder_blocks.0.attn.qkv"):
        more |= {f"{part}.weight": torch.ones(8, 8), f"{part}.bias": torch.ones(8)}
    return {"model": {**state, **more}}


def teacher(state):
    """Build DINO's full checkpoint, whose student has other weights."""
    with_head = {f"backbone.{key}": value for key, value in state.items()}
    with_head |= {"head.mlp.0.weight": torch.ones(4, WIDTH), "head.last_layer.weight_g": torch.ones(4, 1)}
    student = {f"module.{key}": torch.zeros_like(value) for key, value in with_head.items()}
    return {"student": student, "teacher": with_head, "epoch": 800}


def dinov2(state):
    return {**state, "mask_token": torch.ones(1, WIDTH)}


def deit3(state):
    """Use DeiT III's names for LayerScale."""
    return {"model": {key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): state[key] for key in state}}


def old_torchvision(state):
    return {key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): state[key] for key in state}


CASES = {
    "timm": (TimmViT, dict(), dict, "timm-vit"),
    "timm, mean pooling": (TimmViT, dict(pooled=True), dict, "timm-vit"),
    "MAE encoder": (TimmViT, dict(classes=0), lambda state: {"model": state}, "timm-vit"),
    "MAE pre-training": (TimmViT, dict(classes=0), decoder, "mae-vit-pretrain"),
    "MAE fine-tuned": (TimmViT, dict(pooled=True), lambda state: {"model": state}, "timm-vit"),
    "DeiT": (TimmViT, dict(), lambda state: {"model": state}, "timm-vit"),
    "DeiT III": (TimmViT, dict(scales=True, class_position=False), deit3, "timm-vit"),
    "DINO": (TimmViT, dict(classes=0), dict, "timm-vit"),
    "DINO, full": (TimmViT, dict(classes=0), teacher, "timm-vit"),
    "DINOv2": (TimmViT, dict(classes=0, scales=True), dinov2, "timm-vit"),
    "torchvision": (torchvision_vit, dict(), dict, "torchvision-vit"),
    "torchvision before 0.14": (torchvision_vit, dict(), old_torchvision, "torchvision-vit"),
}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_projects_own(case, save):
    """Load through a file and the public registry, with the final norm; compare the logits too if there is a head."""
    kind, options, wrap, name = CASES[case]
    theirs = moderate(kind(**options))
    path = save(wrap(theirs.state_dict()))
    assert read_checkpoint(path).format.name == name
    ours = classifier(path, pooled=options.get("pooled", False))
    if isinstance(theirs, TimmViT):
        torch.testing.assert_close(ours.backbone(IMAGES)[0], theirs.features(IMAGES), rtol=1e-4, atol=1e-5)
    if options.get("classes", 5):
        torch.testing.assert_close(ours(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-5)
    assert theirs(IMAGES).std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.0, 1e-5])
def test_layer_scale_is_kept_or_folded(scale, save):
    theirs = moderate(TimmViT(classes=0, scales=True))
    path = save(theirs.state_dict())
    layer = dict(layer_scale_init_value=scale)
    ours = backbone_of(out_type="cls_token", **layer)
    report = load_into(ours, read_checkpoint(path))
    torch.testing.assert_close(ours(IMAGES)[0], theirs.features(IMAGES), rtol=1e-4, atol=1e-5)
    assert report.initial == [] and report.found == 1
    for to in ("maskfeat", "mmpretrain", "slowfast"):
        back = from_state_dict(convert(read_checkpoint(path), to).state, cfg="" if to == "slowfast" else None)
        again = backbone_of(out_type="raw", final_norm=False, **layer)
        load_into(again, back, min_found=0.5)
        if to != "slowfast" or not scale:  # in PySlowFast's file the scales are part of the layers
            plain = backbone_of(out_type="raw", final_norm=False, **layer)
            load_into(plain, read_checkpoint(path))
            torch.testing.assert_close(again(IMAGES)[0], plain(IMAGES)[0], rtol=1e-4, atol=1e-5)


def test_a_norm_that_the_model_lacks_is_named(save):
    """MAE's norm before pooling is not the norm after it. It is left out, as in MAE's own fine-tuning."""
    path = save({"model": moderate(TimmViT(classes=0)).state_dict()})
    backbone = build("mmpretrain.VisionTransformer", out_type="avg_featmap", final_norm=False)
    report = load_into(backbone, read_checkpoint(path))
    assert sorted(report.initial) == ["ln2.bias", "ln2.weight"]
    assert sorted(report.ignored) == ["norm.bias", "norm.weight"]
    masked = build("maskfeat.MaskedViT")
    assert load_into(masked, read_checkpoint(path)).initial == ["mask_token"]
    assert torch.equal(masked.ln1.weight, torch.load(path, weights_only=True)["model"]["norm.weight"])


def test_pyslowfast_without_its_head(save):
    """The keys are the same, so the container of the file decides."""
    state = moderate(TimmViT(classes=0)).state_dict()
    for content in ({"model_state": state}, {"model_state": state, "cfg": "MVIT: {}"}):
        checkpoint = read_checkpoint(save(content))
        assert checkpoint.format.name == "slowfast-vit-finetune" and "backbone.ln2.weight" in checkpoint.state
    headed = {**state, "head.projection.weight": torch.ones(5, WIDTH), "head.projection.bias": torch.ones(5)}
    assert from_state_dict(headed).format.name == "slowfast-vit-finetune"
    for cfg in ("[" * 9999, "&a [*a]", "MVIT: {POOL_Q_STRIDE: 3}", "MVIT: 3", "\0"):
        assert from_state_dict(headed, cfg=cfg).format.name == "slowfast-vit-finetune"


REFUSED = {
    "DeiT with distillation": {"dist_token": (1, 1, 16), "head_dist.weight": (5, 16)},
    "BEiT": {"blocks.0.attn.relative_position_bias_table": (732, 2), "blocks.0.gamma_1": (16,)},
    "BEiT,": {"rel_pos_bias.relative_position_bias_table": (732, 2)},
    "DINOv2 with registers": {"register_tokens": (1, 4, 16)},
    "CLIP": {"norm_pre.weight": (16,)},
    "SwiGLU": {"blocks.0.mlp.w12.weight": (16, 16)},
    "norms of queries and keys": {"blocks.0.attn.q_norm.weight": (8,)},
    "Hiera": {"blocks.2.proj.weight": (32, 16)},
    "with gated layers": {f"blocks.{i}.mlp.fc2.weight": (16, 16) for i in range(DEPTH)},
    "has parts in its layers": {"blocks.1.attn.surprise.weight": (3,)},
}
REFUSED_ALONE = {
    "CLIP": ("visual.class_embedding", "visual.transformer.resblocks.0.ln_1.weight"),
    "Swin": ("layers.0.blocks.0.attn.relative_position_bias_table",),
    "Hugging Face": ("vit.embeddings.patch_embeddings.projection.weight", "vit.encoder.layer.0.output.dense.weight"),
    "VideoMAE": ("encoder.blocks.0.attn.q_bias", "decoder.blocks.0.attn.q_bias"),
    "timm's MViT": ("stages.0.blocks.0.attn.pool_q.weight", "patch_embed.proj.weight"),
    "torchvision's MViT": ("conv_proj.weight", "blocks.0.attn.pool_q.pool.weight"),
    "PyTorchVideo's MViT": ("patch_embed.patch_model.weight", "blocks.0.attn.pool_q.weight"),
}


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("title", REFUSED)
def test_refused_by_name(title, prefix, save):
    state = moderate(TimmViT()).state_dict() | {key: torch.ones(shape) for key, shape in REFUSED[title].items()}
    path = save({f"{prefix}{key}": value for key, value in state.items()})
    model = build("mmpretrain.VisionTransformer")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=title) as error:
        load_into(model, read_checkpoint(path))
    assert str(path) in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("title", REFUSED_ALONE)
def test_other_models_are_refused_by_name(title, save):
    with pytest.raises(CheckpointError, match=title):
        read_checkpoint(save({key: torch.ones(2, 2) for key in REFUSED_ALONE[title]}))


def test_positions_that_are_not_added_are_refused(save):
    """timm's ViTs with rotary positions have no parameter for the positions."""
    state = moderate(TimmViT()).state_dict()
    del state["pos_embed"]
    with pytest.raises(CheckpointError, match="has no pos_embed: it is of a ViT with relative or rotary positions"):
        read_checkpoint(save(state))
