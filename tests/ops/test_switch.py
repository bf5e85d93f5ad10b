"""With the fast paths off, models compute the same as their parents; with them on, the same up to rounding."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import maskfeat_plugin.ops
from maskfeat_plugin.ops.gate import fast_paths, may_bypass, only_plain_operations, read_switch
from maskfeat_plugin.registry import MODELS

MVIT = dict(
    arch=dict(embed_dims=16, num_layers=3, num_heads=1, downscale_indices=[1], dim_mul_indices=[1]),
    temporal_size=4,
    spatial_size=64,
)
VIT = dict(
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=32,
    patch_size=8,
    out_type="featmap",
)
PAIRS = dict(
    mvit=(dict(type="maskfeat.MaskedMViT", **MVIT), dict(type="mmaction.MViT", **MVIT, dim_mul_in_attention=False)),
    vit=(dict(type="maskfeat.MaskedViT", **VIT), dict(type="mmpretrain.VisionTransformer", **VIT)),
)
VISIBLE_MVIT = dict(type="maskfeat.VisibleMViT", **MVIT)
INPUTS = dict(mvit=(2, 3, 4, 64, 64), vit=(2, 3, 32, 32))
MASKS = dict(mvit=(2, 2, 8, 8), vit=(2, 1, 4, 4))


@pytest.fixture(autouse=True)
def fast_paths_of_any_size(monkeypatch):
    monkeypatch.setattr("maskfeat_plugin.ops.linear._LEAST_WORK", 0)
    monkeypatch.setattr("maskfeat_plugin.ops.blockwise_attention._LEAST_LOGITS", 0)


def build(config):
    torch.manual_seed(0)
    model = MODELS.build(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.eval()
    return model


def inputs(name):
    return torch.randn(INPUTS[name], generator=torch.Generator().manual_seed(1))


def tensors(outputs):
    for output in outputs if isinstance(outputs, tuple | list) else [outputs]:
        if isinstance(output, tuple | list):
            yield from tensors(output)
        else:
            yield output


def gradients(model, outputs):
    model.zero_grad()
    sum(tensor.square().sum() for tensor in tensors(outputs)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def steps(tensor):
    """Return the names of all steps of a backward pass."""
    names, left, seen = set(), [tensor.grad_fn], set()
    while left:
        step = left.pop()
        if step is not None and step not in seen:
            seen.add(step)
            names.add(step.name())
            left.extend(following for following, _ in step.next_functions)
    return names


@pytest.mark.parametrize("name", PAIRS)
def test_without_fast_paths_a_model_is_its_parent_to_the_bit(name):
    ours, theirs = map(build, PAIRS[name])
    theirs.load_state_dict({k: v for k, v in ours.state_dict().items() if k != "mask_token"})
    with fast_paths(False):
        found = ours(inputs(name))
        grads = gradients(ours, found)
    expected = theirs(inputs(name))
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)
    expected_grads = gradients(theirs, expected)
    assert len(expected_grads) > 20
    for key, gradient in expected_grads.items():
        assert torch.equal(grads[key], gradient), key


HAND_WRITTEN = {
    "mvit": {
        "_MLPBackward",
        "_ProjectBackward",
        "_AttentionBackward",
        "_QueryPositionsBackward",
        "_MaxPoolBackward",
        "_DepthwiseConv3dBackward",
        "_NormLinearBackward",
        "_LinearBackward",
    },
    "vit": {"_LinearBackward"},
}


@pytest.mark.parametrize("name", PAIRS)
def test_masked_tokens_and_gradients_are_the_same_on_and_off(name):
    """With the fast paths on, all hand-written functions are used; with them off, none is."""
    model = build(PAIRS[name][0])
    check_on_and_off(model, model.masked_tokens, name, HAND_WRITTEN[name])


def test_visible_tokens_and_gradients_are_the_same_on_and_off():
    model = build(VISIBLE_MVIT)
    check_on_and_off(model, model, "mvit", HAND_WRITTEN["mvit"] - {"_MaxPoolBackward", "_ProjectBackward"})


def check_on_and_off(model, encode, name, hand_written):
    mask = torch.zeros(MASKS[name], dtype=torch.bool)
    mask[:, :, : mask.shape[2] // 2] = True
    outcomes = {}
    for enabled in (True, False):
        with fast_paths(enabled):
            tokens = encode(inputs(name), mask)
            taken = {step for step in steps(tokens) if step.startswith("_")}
            outcomes[enabled] = tokens, gradients(model, tokens)
        assert taken == (hand_written if enabled else set())
    (tokens, grads), (expected, expected_grads) = outcomes[True], outcomes[False]
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)
    noise = 1e-3 * max(gradient.abs().max() for gradient in expected_grads.values())
    assert grads.keys() == expected_grads.keys()
    for key, gradient in expected_grads.items():
        assert (grads[key] - gradient).abs().max() <= 1e-4 * max(gradient.abs().max(), noise), key


def test_the_environment_turns_them_off(monkeypatch):
    monkeypatch.delenv("MASKFEAT_FAST_PATHS", raising=False)
    assert read_switch()
    for value, expected in (("1", True), ("", True), ("0", False)):
        monkeypatch.setenv("MASKFEAT_FAST_PATHS", value)
        assert read_switch() is expected
    monkeypatch.setenv("MASKFEAT_FAST_PATHS", "off")
    with pytest.raises(ValueError, match="MASKFEAT_FAST_PATHS: the value is 'off'. Set it to 0"):
        read_switch()


def test_the_switch_ends_with_its_block():
    assert not only_plain_operations()
    with pytest.raises(KeyError), fast_paths(False):
        assert only_plain_operations()
        raise KeyError
    assert not only_plain_operations()


CHANGES = dict(
    forward_hook=lambda layer: layer.register_forward_hook(print),
    forward_pre_hook=lambda layer: layer.register_forward_pre_hook(print),
    hook_with_keywords=lambda layer: layer.register_forward_hook(print, with_kwargs=True, always_call=True),
    backward_hook=lambda layer: layer.register_full_backward_hook(print),
    backward_pre_hook=lambda layer: layer.register_full_backward_pre_hook(print),
    forward=lambda layer: setattr(layer, "forward", abs),
    compiled=lambda layer: layer.compile(backend="eager"),
    parametrization=lambda layer: nn.utils.parametrizations.weight_norm(layer),
)


@pytest.mark.parametrize("change", CHANGES)
def test_the_gate_sees_every_change_of_a_layer(change):
    layer = nn.Linear(4, 4)
    assert may_bypass((layer, nn.Linear), inputs=torch.zeros(1, 4))
    CHANGES[change](layer)
    assert not may_bypass((layer, nn.Linear))


GLOBAL_HOOKS = ("forward", "forward_pre", "full_backward", "full_backward_pre")


@pytest.mark.parametrize("kind", GLOBAL_HOOKS)
def test_the_gate_sees_global_hooks(kind):
    layer = nn.Linear(4, 4)
    handle = getattr(nn.modules.module, f"register_module_{kind}_hook")(lambda *args: None)
    try:
        assert not may_bypass((layer, nn.Linear))
    finally:
        handle.remove()
    assert may_bypass((layer, nn.Linear))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_gate_sees_parameters_of_another_type(dtype):
    layer = nn.Linear(4, 4)
    layer.bias.data = layer.bias.data.to(dtype)
    assert not may_bypass((layer, nn.Linear), inputs=torch.zeros(1, 4))


def test_arithmetic_has_no_modules_and_no_registry():
    files = [path for path in Path(maskfeat_plugin.ops.__file__).parent.glob("*.py") if path.name != "mmcv_ops.py"]
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert not any("Module" in ast.unparse(base) for base in node.bases), path
            if isinstance(node, ast.ImportFrom):
                assert "registry" not in (node.module or ""), path
