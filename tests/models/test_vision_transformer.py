"""The ViT for fine-tuning: mmpretrain's results, names and initial values, from any pre-training checkpoint."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from mmengine.testing import assert_allclose
from mmpretrain.models import VisionTransformer
from model_pairs import VIT, assert_near, take_fast_paths, tensors

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.registry import MODELS


def build(kind, **settings):
    torch.manual_seed(0)
    model = MODELS.build(dict(type=f"{kind}.VisionTransformer", **{**VIT, **settings}))
    model.init_weights()
    return model


def outputs_and_gradients(model, seed=1):
    torch.manual_seed(seed)
    images = torch.randn(4, 3, 32, 32, requires_grad=True)
    outputs = tensors(model(images))
    weights = [torch.randn_like(output) for output in outputs]
    sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True)).backward()
    return outputs, {"images": images.grad, **{name: value.grad for name, value in model.named_parameters()}}


@pytest.mark.parametrize("small", [True, False], ids=["small", "fast paths"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(drop_path_rate=0.5, layer_scale_init_value=0.1),
        dict(drop_rate=0.2, pre_norm=True, qkv_bias=True),
        dict(final_norm=False, out_indices=[0, 2], frozen_stages=1),
        dict(layer_cfgs=dict(ffn_type="swiglu_fused"), img_size=40),
    ],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("out_type", sorted(VisionTransformer.OUT_TYPES))
def test_outputs_and_gradients_are_the_parents(out_type, settings, small, monkeypatch):
    if not small:
        take_fast_paths(monkeypatch)
    ours, theirs = (build(kind, out_type=out_type, **copy.deepcopy(settings)) for kind in ("maskfeat", "mmpretrain"))
    expected, ours_state = theirs.state_dict(), ours.state_dict()
    assert list(ours_state) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in ours_state.items())  # same order of random numbers
    for training in (True, False):
        ours.train(training), theirs.train(training)
        (found, found_grads), (outputs, grads) = map(outputs_and_gradients, (ours, theirs))
        assert_near(found, outputs, 1e-5)
        for name, grad in grads.items():
            assert (grad is None) == (found_grads[name] is None), name
            if grad is not None:
                assert_allclose(found_grads[name], grad, rtol=1e-4, atol=1e-5 * float(grad.abs().max()), msg=name)


def test_pre_trained_weights_load_whole(tmp_path):
    pretrained = MODELS.build(dict(type="maskfeat.MaskedViT", **VIT))
    pretrained.init_weights()
    state = {f"backbone.{name}": value for name, value in pretrained.state_dict().items()}
    save_checkpoint(dict(state_dict=state), str(tmp_path / "pretrained.pth"))
    init_cfg = dict(type="maskfeat.Pretrained", checkpoint=str(tmp_path / "pretrained.pth"))
    found = build("maskfeat", init_cfg=init_cfg).state_dict()
    assert found and all(torch.equal(value, state[f"backbone.{name}"]) for name, value in found.items())


def test_unknown_architectures_are_named():
    with pytest.raises(ValueError, match="^arch='huge-ish' is unknown; choose one of"):
        build("maskfeat", arch="huge-ish")


@pytest.mark.parametrize(
    "path", sorted((configs_folder() / "classification").glob("*.py")), ids=lambda path: path.stem.partition("_8xb")[0]
)
def test_classification_configs_use_it(path):
    assert Config.fromfile(path).model.backbone.type == "maskfeat.VisionTransformer"
