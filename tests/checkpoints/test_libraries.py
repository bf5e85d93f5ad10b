"""timm, transformers and torchvision with converted weights: equal outputs, and exact conversion back."""

import pytest
import torch
from compared import importable
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from small_models import build, pretraining_state, randomised
from torchvision.models.video import mvit_v1_b, mvit_v2_s
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.models.video.mvit import MViT as TorchvisionMViT

from maskfeat_plugin.checkpoints import CheckpointError, convert, export_checkpoint, from_state_dict, read_checkpoint

with importable():
    import timm
    from transformers import ViTForImageClassification, ViTModel

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
CLIPS = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(4))
# of an architecture of mmpretrain, so that the number of heads need not be given
TINY = dict(arch="deit-tiny", img_size=32, patch_size=8)


@pytest.fixture(autouse=True, scope="module")
def libraries():
    """Import parts of the libraries, which import them only when they are used."""
    with importable():
        yield


def moderate(model):
    """Draw random weights of a size that keeps the attention soft."""
    randomised(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05 if parameter.dim() > 1 else 0.3)
    model.eval()
    return model


def classifier(**backbone):
    """Build a classifier of mmpretrain with random weights."""
    head = dict(type="LinearClsHead", num_classes=5, in_channels=192)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        cfg = dict(type="ImageClassifier", backbone=dict(type="VisionTransformer", **TINY, **backbone), head=head)
        return moderate(MODELS.build(cfg))


def file_of(model, save, prefix=""):
    return save({"state_dict": {f"{prefix}{key}": value for key, value in model.state_dict().items()}})


def run_card(path):
    """Run the lines of a model card that load the weights, in the folder of the card."""
    lines = path.with_suffix(".md").read_text().partition("```python\n")[2].partition("```")[0]
    scope = {}
    exec(lines.replace("FOLDER", str(path.parent)).replace(f'("{path.name}"', f'("{path}"'), scope)  # our own card
    return scope["model"].eval()


def assert_same(ours, theirs):
    assert ours.std() > 0.05
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def assert_round_trip(source, path, left_out=()):
    state, back = read_checkpoint(source).state, read_checkpoint(path).state
    assert back.keys() == state.keys() - set(left_out)
    assert all(torch.equal(back[key], state[key]) for key in back)


@torch.no_grad()
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_pretrained_vit_of_timm(ending, save, tmp_path):
    ours, path = moderate(build("maskfeat.MaskedViT", **TINY, out_type="raw")), tmp_path / f"timm.{ending}"
    source = file_of(ours, save, "backbone.")
    export_checkpoint(read_checkpoint(source), path, "timm", source)
    theirs = run_card(path)
    assert isinstance(theirs, timm.models.VisionTransformer)
    assert_same(ours(IMAGES)[0], theirs.forward_features(IMAGES))
    assert_round_trip(source, path, ["backbone.mask_token"])


@torch.no_grad()
@pytest.mark.parametrize(
    "backbone",
    [
        dict(out_type="avg_featmap", final_norm=False),
        dict(out_type="cls_token"),
        dict(out_type="cls_token", layer_scale_init_value=1e-5),
        dict(out_type="cls_token", qkv_bias=False),
        dict(out_type="avg_featmap", final_norm=False, with_cls_token=False),
    ],
)
def test_classifiers_of_timm(backbone, save, tmp_path):
    ours, path = classifier(**backbone), tmp_path / "timm.safetensors"
    source = file_of(ours, save)
    export_checkpoint(read_checkpoint(source), path, "timm", source)
    assert_same(ours(IMAGES), run_card(path)(IMAGES))
    assert_round_trip(source, path)


@torch.no_grad()
def test_pretrained_vit_of_transformers(save, tmp_path):
    """With and without a mask; transformers finds all its weights in the file, and no other weights."""
    ours, path = moderate(build("maskfeat.MaskedViT", **TINY, out_type="raw")), tmp_path / "model.safetensors"
    source = file_of(ours, save, "backbone.")
    export_checkpoint(read_checkpoint(source), path, "hf", source)
    theirs, loading = ViTModel.from_pretrained(
        tmp_path, add_pooling_layer=False, use_mask_token=True, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    assert_same(ours(IMAGES)[0], theirs(IMAGES).last_hidden_state)
    mask = torch.rand(2, 16, generator=torch.Generator().manual_seed(0)) < 0.4
    assert_same(ours(IMAGES, mask.view(2, 1, 4, 4)), theirs(IMAGES, bool_masked_pos=mask).last_hidden_state[:, 1:])
    assert_same(ours(IMAGES)[0], run_card(path)(IMAGES).last_hidden_state)
    assert_round_trip(source, path)
    theirs.save_pretrained(tmp_path / "again")
    assert_round_trip(source, tmp_path / "again" / "model.safetensors")


@torch.no_grad()
def test_classifier_of_transformers(save, tmp_path):
    ours, path = classifier(out_type="cls_token", layer_scale_init_value=1e-5), tmp_path / "model.safetensors"
    source = file_of(ours, save)
    export_checkpoint(read_checkpoint(source), path, "hf", source)
    theirs, loading = ViTForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    assert theirs.config.num_labels == 5
    assert_same(ours(IMAGES), theirs(IMAGES).logits)
    assert_same(ours(IMAGES), run_card(path)(IMAGES).logits)


def torchvision_mvit(classes):
    """Build torchvision's MViT in the size of the small models."""
    rows = [(1, 8, 8, 1, 8), (2, 8, 16, 2, 4), (4, 16, 16, 2, 2), (8, 16, 32, 1, 2)]
    blocks = [MSBlockConfig(h, i, o, [3] * 3, [3] * 3, [1, q, q], [1, k, k]) for h, i, o, q, k in rows]
    options = dict(residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True)
    return TorchvisionMViT((64, 64), 4, blocks, num_classes=classes, **options).eval()


@torch.no_grad()
def test_mvit_of_torchvision(save):
    ours, head = moderate(build("maskfeat.MViT", dim_mul_in_attention=True)), torch.nn.Linear(32, 5)
    state = {f"backbone.{key}": value for key, value in ours.state_dict().items()}
    state |= {f"cls_head.fc_cls.{key}": value for key, value in head.state_dict().items()}
    converted = convert(from_state_dict(state), "torchvision").state
    theirs = torchvision_mvit(5)
    theirs.load_state_dict(converted, strict=True)
    assert_same(head(ours(CLIPS)[-1][1]), theirs(CLIPS))
    back = read_checkpoint(save(theirs.state_dict())).state
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in back)


def full_size_mvit():
    return build("maskfeat.MViT", arch="small", temporal_size=16, spatial_size=224, dim_mul_in_attention=True)


def test_shapes_of_mvit_v2_s():
    with torch.device("meta"):
        backbone, theirs = full_size_mvit(), mvit_v2_s()
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    state |= {"cls_head.fc_cls.weight": torch.empty(400, 768), "cls_head.fc_cls.bias": torch.empty(400)}
    converted = convert(from_state_dict(state), "torchvision").state
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    back = from_state_dict({key: torch.empty(value.shape) for key, value in theirs.state_dict().items()})
    assert back.format.name == "torchvision-mvit" and back.unknown == [] and back.state.keys() == state.keys()


@torch.no_grad()
def test_mvit_v2_s(save, tmp_path):
    """Compare its features, and its classifier if the model has one."""
    ours, head = full_size_mvit(), torch.nn.Linear(768, 7)
    ours.init_weights()
    state = {f"backbone.{key}": value for key, value in ours.state_dict().items()}
    classifier = {f"cls_head.fc_cls.{key}": value for key, value in head.state_dict().items()}
    for name, content in (("features", state), ("classes", {**state, **classifier})):
        source = save({"state_dict": content}, f"{name}.pth")
        export_checkpoint(read_checkpoint(source), tmp_path / f"{name}.safetensors", "torchvision", source)
        assert_round_trip(source, tmp_path / f"{name}.safetensors")
    clip = torch.randn(1, 3, 16, 224, 224, generator=torch.Generator().manual_seed(5))
    features = ours.eval()(clip)[-1][1]
    assert_same(features, run_card(tmp_path / "features.safetensors")(clip))
    assert_same(head(features), run_card(tmp_path / "classes.safetensors").head(features))


def vit(**options):
    return build("mmpretrain.VisionTransformer", **options)


def mvit(**options):
    return build("maskfeat.MViT", **options)


@pytest.mark.parametrize(
    "model, to, message",
    [
        (mvit(), "torchvision", "doubles the channels in the MLP.*dim_mul_in_attention=True"),
        (mvit(), "timm", "holds an MViT.*Convert it to 'torchvision'"),
        (mvit(dim_mul_in_attention=True), "torchvision", "another size than torchvision's mvit_v2_s: .*arch='small'"),
        (mvit(dim_mul_in_attention=True, use_abs_pos_embed=True), "torchvision", "has backbone.pos_embed"),
        (vit(), "torchvision", "holds a ViT.*Convert it to 'timm' or 'hf'"),
        (vit(out_type="avg_featmap", final_norm=False), "hf", "norm after mean pooling"),
        (vit(out_type="avg_featmap"), "timm", "Set backbone.final_norm=False"),
        (vit(with_cls_token=False, out_type="raw"), "hf", "lacks cls_token"),
        (build("mmaction.VisionTransformer"), "timm", "holds a ViT of clips"),
        (vit(), "timm", "do not tell the number of heads.*--config CONFIG"),
        (vit(**TINY), "hf", "Give FOLDER/model.safetensors"),
    ],
)
def test_what_would_compute_something_else_is_refused(model, to, message, save, tmp_path):
    source = file_of(model, save, "backbone.")
    with pytest.raises(CheckpointError, match=message) as error:
        export_checkpoint(read_checkpoint(source), tmp_path / "out.safetensors", to, source)
    assert str(source) in str(error.value) or "FOLDER" in message
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    "key, title",
    [
        ("embeddings.detection_tokens", "Hugging Face"),
        ("embeddings.distillation_token", "Hugging Face"),
        ("encoder.layer.0.lambda_1", "Hugging Face"),
        ("encoder.layer.0.attention.attention.relative_position_bias.relative_position_bias_table", "BEiT"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "vit."])
def test_relatives_of_the_vit_of_transformers_are_refused(key, title, prefix, save):
    state = convert(from_state_dict(pretraining_state("vit")), "hf").state
    state = {f"{prefix}{name}": value for name, value in state.items()}
    pooler = {"pooler.dense.weight": torch.ones(2, 2)}
    assert read_checkpoint(save({**state, **pooler})).format.name == "hf-vit"
    with pytest.raises(CheckpointError, match=title):
        read_checkpoint(save({**state, f"{prefix}{key}": torch.ones(3)}))


def test_mvit_v1_of_torchvision_is_refused(save):
    with torch.device("meta"):
        names = mvit_v1_b().state_dict()
    with pytest.raises(CheckpointError, match="torchvision's MViT"):
        read_checkpoint(save({name: torch.ones(2) for name in names}))
