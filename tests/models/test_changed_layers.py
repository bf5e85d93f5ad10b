"""Changed or replaced layers take part: adapters, subclasses, parametrizations, pruning, checkpointing."""

import copy
import functools

import pytest
import torch
from model_pairs import MASKED, assert_near, built, encode, inputs, mask_of, take_fast_paths, tensors
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from maskfeat_plugin.registry import MODELS

of_each_masked = pytest.mark.parametrize("name", MASKED)


@pytest.fixture(autouse=True)
def fast_paths_of_any_size(monkeypatch):
    take_fast_paths(monkeypatch)


class Adapter(nn.Module):
    """A low-rank adapter around a layer, without the attributes ``weight`` and ``bias``."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(2, layer.in_features) * 0.1)
        self.up = nn.Parameter(torch.randn(layer.out_features, 2) * 0.1)

    def forward(self, x):
        return self.layer(x) + x @ self.down.t() @ self.up.t()

    def effective(self):
        return self.layer.weight + self.up @ self.down


class Scaled(nn.Linear):
    """A subclass with its own forward."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight * 1.5, self.bias)

    def effective(self):
        return self.weight * 1.5


class Doubled(nn.Module):
    """A parametrization that doubles a weight."""

    def forward(self, weight):
        return 2 * weight


def put(model, path, layer):
    parent, _, key = path.rpartition(".")
    setattr(model.get_submodule(parent), key, layer)
    return layer


def adapt(model, path):
    return put(model, path, Adapter(model.get_submodule(path))).effective()


def subclass(model, path):
    old = model.get_submodule(path)
    new = put(model, path, Scaled(old.in_features, old.out_features, bias=old.bias is not None))
    new.load_state_dict(old.state_dict())
    return new.effective()


def parametrized(model, path):
    parametrize.register_parametrization(model.get_submodule(path), "weight", Doubled())
    return model.get_submodule(path).weight


def by_hook(change):
    """Wrap a change of torch that computes the weight in a hook before each call."""

    def changed(model, path):
        layer = model.get_submodule(path)
        change(layer)
        layer(torch.zeros(1, layer.in_features))
        return layer.weight

    return changed


def with_weights(change):
    """Wrap a change of torch that turns the weight into a parametrization."""

    def changed(model, path):
        change(model.get_submodule(path))
        return model.get_submodule(path).weight

    return changed


CHANGES = dict(
    adapter=adapt,
    subclass=subclass,
    parametrization=parametrized,
    weight_norm=with_weights(parametrizations.weight_norm),
    spectral_norm=with_weights(parametrizations.spectral_norm),
    old_weight_norm=by_hook(weight_norm),
    old_spectral_norm=by_hook(spectral_norm),
    pruned=by_hook(functools.partial(prune.random_unstructured, name="weight", amount=0.5)),
)


def linear_layers(model):
    return [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]


def check_changes(name, changes, masked):
    """Changed layers compute the same as layers with the resulting weights, and they learn."""
    model, merged = copy.deepcopy(built(name, 0)), copy.deepcopy(built(name, 0))
    for path, change in changes.items():
        weight = CHANGES[change](model, path)
        merged.get_submodule(path).weight.data.copy_(weight.detach())
    model.eval()
    out = encode(model, name, masked)
    assert_near(out, encode(merged, name, masked))
    sum(t.square().sum() for t in tensors(out)).backward()
    for path in changes:
        assert all(p.grad is not None for p in model.get_submodule(path).parameters()), (path, changes)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("change", CHANGES)
@of_each_masked
def test_changed_layers(name, change, masked):
    torch.manual_seed(3)
    check_changes(name, dict.fromkeys(linear_layers(built(name, 0)), change), masked)


def check_random_changes(cases):
    generator = torch.Generator().manual_seed(4)

    def draw(options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    for _ in range(cases):
        name = draw(list(MASKED))
        layers = linear_layers(built(name, 0))
        chosen = {draw(layers): draw(list(CHANGES)) for _ in range(draw([1, 1, 2, 3, 5]))}
        check_changes(name, chosen, draw([False, True]))


def test_random_layers_are_changed():
    check_random_changes(40)


@pytest.mark.long
def test_many_random_layers_are_changed():
    check_random_changes(2000)


@pytest.mark.parametrize("name", ["vit", "mvit"])
def test_loras_of_mmpretrain_learn_in_pre_training(name):
    """All adapters get a gradient in a step of pre-training, including the adapters of the last layer."""
    targets = [dict(type=target) for target in ("qkv", "proj", "fc1", "layers.1")]
    lora = dict(type="mmpretrain.LoRAModel", module=MASKED[name], alpha=4, rank=2, targets=targets)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=lora,
            target_generator=dict(type="maskfeat.HOGGenerator", cell_size=4 if name == "vit" else 8),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=32 if name == "vit" else 64, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
        )
    )
    adapters = {path: module for path, module in model.named_modules() if hasattr(module, "lora_up")}
    for module in adapters.values():
        nn.init.normal_(module.lora_up.weight, std=0.1)
    model.loss(inputs(name), mask=mask_of(name))["loss"].backward()
    assert len(adapters) >= 9
    assert all(module.lora_down.weight.grad.abs().sum() > 0 for module in adapters.values())
    assert all(module.original_layer.weight.grad is None for module in adapters.values())


@pytest.mark.parametrize("kind", ["blocks", "attention and MLPs", "linear layers"])
@of_each_masked
def test_activation_checkpointing_of_any_part(name, kind):
    """torch's wrappers around blocks, their parts or single layers give the same gradients."""
    plain, wrapped = copy.deepcopy(built(name, 0)), copy.deepcopy(built(name, 0))
    blocks = plain.blocks if "mvit" in name else plain.layers
    block = blocks[0]
    types = {
        "blocks": {type(b) for b in blocks},
        "attention and MLPs": {type(block.attn), type(block.mlp if "mvit" in name else block.ffn)},
        "linear layers": {nn.Linear},
    }[kind]
    apply_activation_checkpointing(wrapped, check_fn=lambda module: type(module) in types)
    assert any("CheckpointWrapper" in type(module).__name__ for module in wrapped.modules())
    for model in (plain, wrapped):
        sum(t.square().sum() for t in tensors(encode(model, name, masked=True))).backward()
    gradients = [[p.grad for p in model.parameters() if p.grad is not None] for model in (plain, wrapped)]
    noise = 1e-3 * max(gradient.abs().max() for gradient in gradients[0])  # for gradients that should be zero
    for expected, gradient in zip(*gradients, strict=True):
        assert (gradient - expected).abs().max() <= 1e-4 * max(expected.abs().max(), noise)


class Whole(nn.Module):
    """A layer around an attention or an MLP that accepts only its parent's arguments."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, in_size):
        return self.inner(x, in_size)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_an_attention_with_the_parents_arguments(masked):
    model = copy.deepcopy(built("mvit", 0))
    expected = encode(model, "mvit", masked)
    for block in model.blocks:
        block.attn = Whole(block.attn)
    assert_near(encode(model, "mvit", masked), expected)


class Counted(nn.Module):
    """A layer around another layer that counts its calls."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.inner(*args, **kwargs)


def test_parts_of_a_windowed_vit():
    """Windows that do not divide the grid take another code path: 5 x 4 tokens in windows of 3."""
    cfg = dict(arch=dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64), img_size=32, patch_size=8)
    model = MODELS.build(dict(type="maskfeat.WindowedViT", **cfg, window_size=3))
    model.eval()
    x = torch.randn(2, 3, 40, 32)
    expected = model(x)
    counted = []
    for layer in model.layers:
        for key in ("attn", "ffn", "ln1"):
            counted.append(put(layer, key, Counted(getattr(layer, key))))
        counted.append(put(layer.attn.inner, "qkv", Counted(layer.attn.inner.qkv)))
    assert_near(model(x), expected)
    assert [module.calls for module in counted] == [1] * 16


def test_the_patch_embedding_of_an_image_mvit():
    arch = dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2, 3], dim_mul_indices=[1, 2, 3])
    model = MODELS.build(dict(type="maskfeat.ImageMViT", arch=arch, spatial_size=64))
    model.eval()
    x = torch.randn(2, 3, 64, 96)
    expected = model(x)
    counted = put(model, "patch_embed.projection", WithKernel(model.patch_embed.projection))
    assert_near(model(x), expected)
    assert counted.calls == 1


class WithKernel(Counted):
    """A counted convolution with the attributes of its kernel."""

    def __init__(self, inner):
        super().__init__(inner)
        self.kernel_size, self.stride, self.padding = inner.kernel_size, inner.stride, inner.padding


def test_a_pooling_whose_padding_has_a_name():
    model = copy.deepcopy(built("mvit", 0))
    expected = encode(model, "mvit", masked=False)
    pool = model.blocks[0].attn.pool_q
    same = nn.Conv3d(pool.in_channels, pool.out_channels, 3, padding="same", groups=pool.groups, bias=False)
    same.load_state_dict(pool.state_dict())
    put(model, "blocks.0.attn.pool_q", same)
    assert_near(encode(model, "mvit", masked=False), expected)
