"""Targets at several layers: each layer's tokens, their predictions and gradients, and the way into fine-tuning."""

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint
from mmpretrain.structures import DataSample
from test_compiled import compile_copy, draw_masks

from maskfeat_plugin.checkpoints import load_file
from maskfeat_plugin.checkpoints.initializer import PretrainedInit
from maskfeat_plugin.models.utils import expand_mask, group_tokens, masked_places
from maskfeat_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
VIT = dict(
    type="maskfeat.MultiLayerMaskedViT",
    early_layers=(0, 1),
    arch=dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48),
    img_size=32,
    patch_size=8,
)
# 8 x 8 tokens of 4 pixels after block 0, 4 x 4 after block 1, 2 x 2 after block 2
MVIT = dict(
    type="maskfeat.MultiLayerMaskedMViT",
    early_layers=(0, 1),
    arch=dict(embed_dims=8, num_layers=3, num_heads=1, downscale_indices=[1, 2], dim_mul_indices=[1, 2]),
    temporal_size=4,
    spatial_size=32,
)
BACKBONES = dict(image=VIT, clip=MVIT)
NAMES = ("fine", "middle", "coarse")
# Cells of each target, values of each target, channels of each layer's tokens below one masked token
CELLS = dict(image=(2, 4, 8), clip=(4, 8, 16))
VALUES = (432, 108, 27)
CHANNELS = dict(image=(24, 24, 24), clip=(16 * 16, 4 * 32, 32))


@pytest.fixture(params=BACKBONES)
def kind(request):
    return request.param


def build(kind, **backbone):
    """Build a model that predicts HOG of three cell sizes from three layers, with weights large enough to matter."""
    necks = {
        name: dict(type="maskfeat.RegressionNeck", in_channels=channels, out_channels=values)
        for name, channels, values in zip(NAMES, CHANNELS[kind], VALUES, strict=True)
    }
    targets = {n: dict(type="maskfeat.HOGGenerator", cell_size=c) for n, c in zip(NAMES, CELLS[kind], strict=True)}
    heads = {name: dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")) for name in NAMES}
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(BACKBONES[kind], **backbone),
            target_generator=dict(type="maskfeat.MultiTargetGenerator", targets=targets),
            neck=dict(type="maskfeat.MultiLayerNeck", necks=necks),
            head=dict(type="maskfeat.MultiTargetHead", heads=heads),
        )
    )
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator) * (0.5 if p.dim() == 1 or p.shape[0] == 1 else 0.2)
    return model.train()


def batch(kind, counts=(2, 2)):
    """Draw two samples, and masks of the given numbers of tokens."""
    generator = torch.Generator().manual_seed(1)
    size, grid = ((3, 32, 32), (1, 4, 4)) if kind == "image" else ((3, 4, 32, 32), (2, 2, 2))
    mask = torch.zeros(len(counts), *grid, dtype=torch.bool)
    for row, count in zip(mask, counts, strict=True):
        row.view(-1)[torch.randperm(row.numel(), generator=generator)[:count]] = True
    return torch.randn(len(counts), *size, generator=generator), mask


def layers_of(backbone):
    return backbone.layers if hasattr(backbone, "layers") else backbone.blocks


def outputs_of_layers(backbone, inputs, mask):
    """Record the tokens after each layer, without class token, while all tokens are encoded."""
    found = []
    hooks = [
        layer.register_forward_hook(
            lambda module, args, out: found.append((out[0] if isinstance(out, tuple) else out)[:, 1:])
        )
        for layer in layers_of(backbone)
    ]
    last = backbone(inputs, mask)
    for hook in hooks:
        hook.remove()
    return found, last


@pytest.mark.parametrize("counts", [(2, 2), (1, 3)], ids=["equal", "unequal"])
def test_tokens_are_those_of_the_layers_below_each_masked_token(kind, counts):
    """For each masked token, one by one: the tokens of the layer's own grid that lie in it, normalised, in rows."""
    backbone = build(kind).backbone
    inputs, mask = batch(kind, counts)
    tokens = backbone.masked_tokens(inputs, mask)
    layers, last = outputs_of_layers(backbone, inputs, mask)
    torch.testing.assert_close(tokens[-1], last[mask.flatten(1)], rtol=1e-5, atol=1e-5)
    fine_grids = [(1, 4, 4)] * 2 if kind == "image" else [(2, 8, 8), (2, 4, 4)]
    for found, layer, grid in zip(tokens[:-1], layers[:-1], fine_grids, strict=True):
        whole = layer.unflatten(1, grid)
        rows, cols = grid[1] // mask.shape[2], grid[2] // mask.shape[3]
        expected = []
        for n, t, i, j in mask.nonzero().tolist():
            below = whole[n, t, i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
            expected.append(F.layer_norm(below, below.shape[-1:], eps=1e-6).flatten())
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_known_places_change_nothing(kind):
    backbone = build(kind).backbone
    inputs, mask = batch(kind)
    for found, expected in zip(
        backbone.masked_tokens(inputs, mask, masked_places(mask)), backbone.masked_tokens(inputs, mask), strict=True
    ):
        assert torch.equal(found, expected)


def test_groups_are_the_tokens_that_the_mask_replaces():
    """A mask on the coarse grid covers the groups of its masked tokens, and no token of another group."""
    mask = torch.rand(3, 2, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    fine = expand_mask(mask, (4, 6, 16))
    groups = group_tokens(fine[..., None], (4, 6, 16), (2, 3, 4)).squeeze(-1)
    assert groups.shape == (3, 24, 16)
    assert torch.equal(groups, mask.flatten(1)[..., None].expand_as(groups))
    with pytest.raises(ValueError, match="not a multiple"):
        group_tokens(fine[..., None], (4, 6, 16), (2, 4, 4))


def test_each_layer_predicts_its_own_target_and_trains_the_layers_before_it(kind):
    model = build(kind)
    inputs, mask = batch(kind)
    losses = model(inputs, mask=mask, masked_index=masked_places(mask).index, mode="loss")
    assert set(losses) == {f"{what}_{name}" for what in ("loss", "baseline") for name in NAMES}
    tokens = model.backbone.masked_tokens(inputs, mask)
    for depth, (name, layer) in enumerate(zip(NAMES, tokens, strict=True)):
        target = MODELS.build(dict(type="maskfeat.HOGGenerator", cell_size=CELLS[kind][depth]))(inputs, mask)
        assert target.shape == (int(mask.sum()), VALUES[depth])
        pred = model.neck.necks[name].fc(layer)
        torch.testing.assert_close(losses[f"loss_{name}"], (pred - target).square().mean())
        model.zero_grad()
        losses[f"loss_{name}"].backward(retain_graph=True)
        trained = [any(p.grad is not None and p.grad.any() for p in x.parameters()) for x in layers_of(model.backbone)]
        assert trained == [i <= depth for i in range(3)]
        assert model.backbone.mask_token.grad.any()
        assert [n for n in NAMES if model.neck.necks[n].fc.weight.grad is not None] == [name]


def test_recomputed_blocks_give_the_same_gradients():
    inputs, mask = batch("clip")
    found = []
    for with_cp in (False, True):
        model = build("clip", with_cp=with_cp)
        model.parse_losses(model(inputs, mask=mask, mode="loss"))[0].backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


def test_a_step_reads_no_value(kind):
    """The step runs on the "meta" device, whose tensors have no values."""
    model = build(kind).to("meta")
    inputs, mask = batch(kind)
    samples = [DataSample(mask=one.squeeze(0) if len(one) == 1 else one) for one in mask]
    images = [torch.randint(0, 256, x.shape, dtype=torch.uint8) for x in inputs]
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    outputs = model.train_step(dict(inputs=images, data_samples=samples), wrapper)
    assert {f"loss_{name}" for name in NAMES} < outputs.keys()
    assert all(value.device.type == "meta" for value in outputs.values())
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):  # the check above can fail
        model(inputs.to("meta"), mask=mask.to("meta"), mode="loss")


@pytest.mark.parametrize("kind", [pytest.param("image", marks=pytest.mark.long), "clip"])
def test_pre_training_is_one_graph_for_all_masks(kind):
    torch._dynamo.reset()
    model = build(kind)
    compiled = compile_copy(model)
    inputs, _ = batch(kind)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(2):
            mask, index = draw_masks(model, inputs, seed)
            eager = model(inputs, mask=mask, masked_index=index, mode="loss")
            found = compiled(inputs, mask=mask, masked_index=index, mode="loss")
            for either, losses in ((model, eager), (compiled, found)):
                either.zero_grad()
                either.parse_losses(losses)[0].backward()
            for name, value in eager.items():
                torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
            for (name, p), other in zip(model.named_parameters(), compiled.parameters(), strict=True):
                torch.testing.assert_close(other.grad, p.grad, rtol=1e-3, atol=1e-4, msg=name)
    torch._dynamo.reset()


def test_a_resumed_training_goes_on_as_if_uninterrupted(kind, tmp_path):
    model = build(kind)
    inputs, mask = batch(kind)

    def train(model, optimizer, steps):
        for _ in range(steps):
            loss = model.parse_losses(model(inputs, mask=mask, mode="loss"))[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    other = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer, 2)
    save_checkpoint(dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict()), str(tmp_path / "two.pth"))
    train(model, optimizer, 2)
    resumed = torch.optim.AdamW(other.parameters(), lr=1e-2)
    checkpoint = load_file(tmp_path / "two.pth")
    other.load_state_dict(checkpoint["state_dict"])
    resumed.load_state_dict(checkpoint["optimizer"])
    train(other, resumed, 2)
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize(
    ("pretraining", "finetuning"),
    [
        ("efficient/maskfeat-local_vit-tiny_moving-digits.py", "demo/vit-tiny_moving-digits-class.py"),
        ("efficient/maskfeat-local_mvit-tiny_moving-digits.py", "demo/mvit-tiny_moving-digits-motion.py"),
        ("efficient/maskfeat-24px_vit-tiny_moving-digits.py", "demo/vit-tiny_moving-digits-class.py"),
    ],
)
def test_all_weights_of_the_backbone_reach_fine_tuning(pretraining, finetuning, tmp_path):
    first, second = (Config.fromfile(CONFIGS / path) for path in (pretraining, finetuning))
    with DefaultScope.overwrite_default_scope(first.default_scope):
        model = MODELS.build(first.model)
        model.init_weights()
        tuned = MODELS.build(second.model)
    file = str(tmp_path / "pretrained.pth")
    save_checkpoint(dict(state_dict=model.state_dict()), file)
    report = PretrainedInit(file)(tuned.backbone)
    smaller = "-24px_" in pretraining
    # the final norm of pre-training is at another place than the one of fine-tuning
    assert all(name.startswith(("ln2.", "norm")) for name in report.initial)
    assert list(report.resized) == (["pos_embed"] if smaller else [])
    unused = re.compile(r"neck\.|backbone\.(mask_token$|ln1\.|norm)")
    assert all(unused.match(name) for name in report.ignored)
    trained = model.backbone.state_dict()
    shared = [name for name in tuned.backbone.state_dict() if name in trained and not (smaller and name == "pos_embed")]
    assert len(shared) > 40
    for name in shared:
        assert torch.equal(tuned.backbone.state_dict()[name], trained[name]), name


def test_bad_settings_are_named(kind):
    for layers in ((), (1, 0), (0, 0), (-1,), (0, 2)):
        with pytest.raises(ValueError, match=r"early_layers=.* from 0 to 1: the backbone has 3 layers"):
            build(kind, early_layers=layers)
    inputs, mask = batch(kind)
    with pytest.raises(ValueError, match=r"tokens of 2 layer\(s\), but `neck\.necks` has 3: fine, middle, coarse"):
        build(kind, early_layers=(1,))(inputs, mask=mask, mode="loss")
    plain = {key: value for key, value in BACKBONES[kind].items() if key != "early_layers"}
    backbone = MODELS.build(dict(plain, type=plain["type"].replace("MultiLayer", "")))
    with pytest.raises(ValueError, match=r"tokens of 1 layer\(s\).*Set `backbone\.early_layers`"):
        build(kind).neck(backbone.masked_tokens(inputs, mask))
    with pytest.raises(ValueError, match="token_grid"):
        build(kind).backbone.masked_tokens(inputs, mask[..., :1])
